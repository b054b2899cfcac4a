"""SIGHUP: keys and certificates are read again, and nobody who is connected notices."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.serving import DARKROOM, Server, serving
from darkroom_client import Client, tls_credentials
from darkroom_client.errors import Unauthenticated


@dataclass(frozen=True, slots=True)
class Service:
    """A server, its files, and those whom its clients trust."""

    server: Server
    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def keys_file(self) -> Path:
        return self.folder / "keys.toml"

    def hang_up(self, event: str) -> None:
        """What a terminal does to all processes of the server when it is closed."""
        mark = len(self.server.log)
        self.server.signal_all(signal.SIGHUP)
        self.server.until(event, after=mark)

    def shown(self, setting: str) -> bytes:
        """The certificate that a port shows a new connection."""
        address = ("127.0.0.1", self.server.until("listening")[setting])
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"] if setting == "grpc_port" else ["http/1.1"])
        with (
            socket.create_connection(address, timeout=10) as plain,
            context.wrap_socket(plain) as secured,
        ):
            return secured.getpeercert(binary_form=True) or b""

    def client(self, key: str) -> Client:
        return Client(self.server.address, credentials=tls_credentials(ca=self.ca), api_key=key)


def issue(folder: Path) -> None:
    """A certificate of a new CA."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    (folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(folder / "key.pem")


def create_key(keys_file: Path) -> str:
    command = [*DARKROOM, "keys", "create", "x", "--keys-file", str(keys_file)]
    made = subprocess.run(command, check=True, capture_output=True, text=True)
    return made.stdout.strip()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    tmp_path = tmp_path_factory.mktemp("service")
    (tmp_path / "models" / "fake" / "1").mkdir(parents=True)
    (tmp_path / "models" / "fake" / "config.pbtxt").write_text("backend: BACKEND_FAKE\n")
    issue(tmp_path)
    create_key(tmp_path / "keys.toml")
    flags = [
        "--tls-certificate",
        str(tmp_path / "cert.pem"),
        "--tls-key",
        str(tmp_path / "key.pem"),
    ]
    flags += ["--keys-file", str(tmp_path / "keys.toml")]
    with serving(tmp_path / "models", *flags) as server:
        server.until("model", state="ready")
        server.until("worker ready")
        yield Service(server, tmp_path)


def test_new_connections_see_new_certificates_and_old_ones_stay(service: Service) -> None:
    worker = service.server.worker_pid()
    old_ca = service.ca.read_bytes()
    before = [service.shown(setting) for setting in ("grpc_port", "http_port")]
    credentials = grpc.ssl_channel_credentials(old_ca)
    with grpc.secure_channel(service.server.address, credentials) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service=""))
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        issue(service.folder)
        service.hang_up("certificates read")
        after = [service.shown(setting) for setting in ("grpc_port", "http_port")]
        assert len({*before, *after}) == 2 == len({before[0], after[0]})
        # The same connection, and the stream on it.
        assert health.Check(health_pb2.HealthCheckRequest(service="")).status == 1
        watch.cancel()
        with suppress(grpc.RpcError):
            assert not list(watch)
    with service.client(create_key(service.keys_file)) as client:
        service.hang_up("certificates read")
        assert client.generate("x", seed=1).images
    assert service.server.worker_pid() == worker
    assert service.server.process.poll() is None


@pytest.mark.parametrize("file", ["cert.pem", "key.pem"])
@pytest.mark.parametrize("content", [None, b"no PEM"], ids=["away", "no-pem"])
def test_wrong_files_are_logged_and_those_before_stay(
    service: Service, file: str, content: bytes | None
) -> None:
    before = [service.shown(setting) for setting in ("grpc_port", "http_port")]
    path = service.folder / file
    was = path.read_bytes()
    path.unlink() if content is None else path.write_bytes(content)
    service.hang_up("certificates not read again; those before still count")
    path.write_bytes(was)
    assert [service.shown(setting) for setting in ("grpc_port", "http_port")] == before


def test_keys_that_are_taken_away_count_no_longer(service: Service) -> None:
    key = create_key(service.keys_file)
    service.hang_up("certificates read")
    with service.client(key) as client:
        assert client.generate("x", seed=1).images
        service.keys_file.write_text("keys = []\n")
        service.hang_up("certificates read")
        with pytest.raises(Unauthenticated):
            client.generate("x", seed=1)
