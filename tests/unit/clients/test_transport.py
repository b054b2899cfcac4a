"""Why there is no connection, from what gRPC really says."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import trustme

from darkroom_client import Client, errors, tls_credentials
from darkroom_client.transport import TransportFault, fault_of


class _Refusal(socketserver.BaseRequestHandler):
    """What servers of HTTP/1.1 say to the preface of HTTP/2."""

    def handle(self) -> None:
        self.request.recv(1024)
        self.request.sendall(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")


@pytest.fixture
def http_address() -> Iterator[str]:
    """Where a server listens that speaks HTTP/1.1 and no gRPC."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Refusal) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def fault_at(
    address: str, credentials: grpc.ChannelCredentials | None = None
) -> TransportFault | None:
    client = Client(address, max_attempts=1, credentials=credentials)
    with client, pytest.raises(errors.Unavailable) as caught:
        client.list_models(timeout=120)
    fault = fault_of(str(caught.value))
    assert fault is None or fault.value in str(caught.value)
    return fault


def test_nothing_listens_there() -> None:
    with socket.socket() as taken:
        # Bound, and not listening: nobody else can take the port meanwhile.
        taken.bind(("127.0.0.1", 0))
        assert fault_at(f"127.0.0.1:{taken.getsockname()[1]}") is TransportFault.REFUSED


def test_the_port_of_http_is_not_that_of_grpc(http_address: str) -> None:
    assert fault_at(http_address) is TransportFault.HTTP_SERVER


def test_a_name_of_no_host() -> None:
    assert fault_at("no-host.invalid:8001") is TransportFault.UNKNOWN_HOST


def test_files_of_the_client_that_are_something_else(http_address: str, tmp_path: Path) -> None:
    ca, certificate, key = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem"))
    authority = trustme.CA()
    authority.cert_pem.write_to_path(ca)
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    other = tmp_path / "other.pem"
    authority.issue_cert("localhost").private_key_pem.write_to_path(other)
    for credentials in (
        tls_credentials(ca=key),
        tls_credentials(ca=ca, certificate=certificate, key=other),
        tls_credentials(ca=ca, certificate=key, key=key),
    ):
        assert fault_at(http_address, credentials) is TransportFault.OWN_FILES


@pytest.mark.parametrize("half", ["certificate", "key"])
def test_half_of_a_certificate_is_refused_before_grpc_ends_the_process(
    tmp_path: Path, half: str
) -> None:
    file = tmp_path / "one.pem"
    file.write_text("")
    with pytest.raises(ValueError, match="go together"):
        tls_credentials(**{half: file})
