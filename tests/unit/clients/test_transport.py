"""Why there is no connection, from what gRPC really says."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from darkroom_client import Client, errors
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


def fault_at(address: str) -> TransportFault | None:
    with Client(address, max_attempts=1) as client, pytest.raises(errors.Unavailable) as caught:
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
