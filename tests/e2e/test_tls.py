"""TLS on both ports, and client certificates on gRPC, with a CA that is thrown away."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme

from bench.serving import Server, serving
from darkroom_client import Client, tls_credentials
from darkroom_client.errors import Unauthenticated, Unavailable


@dataclass(frozen=True, slots=True)
class Files:
    """PEM files of a CA, a server and a client."""

    ca: Path
    certificate: Path
    key: Path
    client_certificate: Path
    client_key: Path

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--tls-certificate", str(self.certificate), "--tls-key", str(self.key))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tls")
    files = Files(
        *(folder / f"{name}.pem" for name in ("ca", "cert", "key", "client", "client-key"))
    )
    authority = trustme.CA()
    authority.cert_pem.write_to_path(files.ca)
    server = authority.issue_cert("127.0.0.1")
    files.certificate.write_bytes(b"".join(pem.bytes() for pem in server.cert_chain_pems))
    server.private_key_pem.write_to_path(files.key)
    client = authority.issue_cert("client@example.com", common_name="the web team")
    files.client_certificate.write_bytes(b"".join(pem.bytes() for pem in client.cert_chain_pems))
    client.private_key_pem.write_to_path(files.client_key)
    return files


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "fake" / "1").mkdir(parents=True)
    (folder / "fake" / "config.pbtxt").write_text("backend: BACKEND_FAKE\n")
    return folder


@pytest.fixture(scope="module")
def server(files: Files, models: Path) -> Iterator[Server]:
    with serving(models, *files.flags, "--tls-client-ca", str(files.ca)) as server:
        server.until("model", state="ready")
        yield server


def test_grpc_takes_a_client_with_a_certificate_and_logs_its_name(
    files: Files, server: Server
) -> None:
    credentials = tls_credentials(
        ca=files.ca, certificate=files.client_certificate, key=files.client_key
    )
    mark = len(server.log)
    with Client(server.address, credentials=credentials) as client:
        assert client.generate("x", seed=1).images
    assert server.until("call", after=mark)["peer"] == "the web team"


@pytest.mark.parametrize("trusted", [True, False], ids=["no-certificate", "plain"])
def test_grpc_takes_no_other(files: Files, server: Server, trusted: bool) -> None:
    credentials = tls_credentials(ca=files.ca) if trusted else None
    with (
        Client(server.address, credentials=credentials, max_attempts=1) as client,
        pytest.raises(Unavailable),
    ):
        client.list_models(timeout=10)


def test_http_speaks_tls_and_nothing_else(files: Files, server: Server) -> None:
    port = server.until("listening")["http_port"]
    context = ssl.create_default_context(cafile=str(files.ca))
    with httpx.Client(verify=context) as http:
        assert http.get(f"https://127.0.0.1:{port}/v1/models").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"https://127.0.0.1:{port}/v1/models")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{port}/v1/models")


def test_the_command_line_speaks_tls(files: Files, models: Path, tmp_path: Path) -> None:
    keys_file = tmp_path / "keys.toml"
    command = str(Path(sys.executable).with_name("darkroom"))
    made = subprocess.run(
        [command, "keys", "create", "x", "--keys-file", str(keys_file)],
        check=True,
        capture_output=True,
        text=True,
    )
    with serving(models, *files.flags, "--keys-file", str(keys_file)) as server:
        server.until("model", state="ready")
        asked = [command, "models", "--json", "--server", server.address, "--tls-ca", str(files.ca)]
        refused = subprocess.run(asked, check=False, capture_output=True, text=True)
        assert refused.returncode == 7
        assert "`authorization: Bearer KEY`; give a key with --api-key or" in refused.stderr
        assert "api_key=" not in refused.stderr
        credentials = tls_credentials(ca=files.ca)
        with (
            Client(server.address, credentials=credentials) as client,
            pytest.raises(Unauthenticated, match=r"is needed.*the client takes a key as api_key="),
        ):
            client.list_models(timeout=120)
        asked += ["--api-key", made.stdout.strip()]
        listed = subprocess.run(asked, check=True, capture_output=True, text=True)
        assert [one["name"] for one in json.loads(listed.stdout)] == ["models/fake"]


def darkroom(*arguments: str) -> str:
    """What a command that fails says, in one line."""
    command = [str(Path(sys.executable).with_name("darkroom")), "models", "list", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done
    # gRPC's own lines of a handshake go to stderr, too.
    (line,) = [one for one in done.stderr.splitlines() if one.startswith("darkroom: ")]
    return line


def test_a_connection_that_cannot_be_made_is_told_in_the_commands_words(
    files: Files, server: Server, models: Path, tmp_path: Path
) -> None:
    strange = tmp_path / "strange.pem"
    trustme.CA().cert_pem.write_to_path(strange)
    # An address of the loopback that is not in the certificate.
    elsewhere = ("--host", "127.0.0.2", *files.flags)
    with (
        serving(models) as plain,
        serving(models, *files.flags) as tls,
        serving(models, *elsewhere) as other,
    ):
        address = other.address.replace("127.0.0.1", "127.0.0.2")
        told = darkroom("--server", address, "--tls-ca", str(files.ca))
        assert "another name" in told
        assert "leave out --tls" in darkroom("--server", plain.address, "--tls-ca", str(files.ca))
        assert "--tls-ca" in darkroom("--server", tls.address, "--tls-ca", str(strange))
        for wrong in (
            ("--tls-ca", str(files.client_key)),
            ("--tls-ca", str(files.ca), "--client-certificate", str(files.client_key)),
        ):
            key = ("--client-key", str(files.client_key)) if "--client-certificate" in wrong else ()
            assert "is not in PEM" in darkroom("--server", tls.address, *wrong, *key)
        assert "give --tls or --tls-ca" in darkroom("--server", tls.address)
        told = darkroom("--server", server.address, "--tls-ca", str(files.ca))
        assert "--client-certificate" in told
        with Client(tls.address, max_attempts=1) as client, pytest.raises(Unavailable) as failed:
            client.list_models(timeout=10)
    assert "tls_credentials" in str(failed.value)
