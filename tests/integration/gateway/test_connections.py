"""Connections that ask for nothing, over real sockets: none of them keeps its place for long."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trustme

from darkroom_server.access.gate import Gate, GateOptions
from darkroom_server.gateway import connections, server
from darkroom_server.gateway.connect import Servicers
from darkroom_server.gateway.server import HttpOptions, HttpServer, build_http_server
from darkroom_server.image_decoding.images import ImageLimits
from darkroom_server.rpc.server import servicers
from darkroom_server.telemetry.metrics import Metrics
from darkroom_server.wire.tls import Certificates, TlsFiles
from tests.unit.gateway.test_authentication import Engine

LIVE = b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
POST = (
    b"POST /v1/images/generations HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
)


@asynccontextmanager
async def listening(max_count: int, tls: TlsFiles | None = None) -> AsyncIterator[HttpServer]:
    engine: Any = Engine()
    certificates = None if tls is None else Certificates(tls)
    options = HttpOptions("127.0.0.1", 0, 8001, max_connection_count=max_count, tls=certificates)
    found = Servicers(*servicers(engine, ImageLimits()))
    made = build_http_server(engine, options, Metrics(), Gate(GateOptions()), found)
    made.start()
    yield made
    await made.stop()


class Client:
    """A connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, http: HttpServer, context: ssl.SSLContext | None = None) -> Client:
        named = "localhost" if context else None
        return cls(
            *await asyncio.open_connection(
                "127.0.0.1", http.port, ssl=context, server_hostname=named
            )
        )

    async def ask(self, content: bytes) -> bytes:
        """The status line of the answer; empty where the server hung up."""
        self._writer.write(content)
        return await self.answer()

    async def answer(self) -> bytes:
        async with asyncio.timeout(300):
            try:
                line = await self._reader.readline()
                with suppress(asyncio.IncompleteReadError):
                    head = await self._reader.readuntil(b"\r\n\r\n")
                    length = re.search(rb"content-length: (\d+)", head)
                    await self._reader.readexactly(int(length[1]) if length else 0)
            except ConnectionError:
                return b""
            return line.rstrip()

    async def is_over(self) -> bool:
        async with asyncio.timeout(300):
            with suppress(ConnectionError):
                return await self._reader.read(1) == b""
            return True


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(300):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_TIMEOUT_S", "LINGER_S", "UNREAD_TIMEOUT_S"):
        monkeypatch.setattr(connections, name, 0.1)
    monkeypatch.setattr(server, "_WATCH_INTERVAL_S", 0.05)


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    made = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    made.private_key_pem.write_to_path(folder / "key.pem")
    made.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    return TlsFiles(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")


async def test_who_asks_for_nothing_makes_room_the_oldest_first() -> None:
    async with listening(3) as http:
        asking = await Client.to(http)
        assert await asking.ask(LIVE) == b"HTTP/1.1 200 OK"
        silent = [await Client.to(http) for _ in range(6)]
        for one in silent[:4]:
            assert await one.is_over()
        # One that has asked before stays longer than those that never have.
        assert await asking.ask(LIVE) == b"HTTP/1.1 200 OK"
        assert await silent[-1].ask(LIVE) == b"HTTP/1.1 200 OK"


async def test_where_all_are_at_work_the_next_one_is_turned_away() -> None:
    async with listening(2) as http:
        working = [await Client.to(http) for _ in range(2)]
        for one in working:
            one._writer.write(POST + b"content-length: 10\r\n\r\n{")
        await until(lambda: all(not one.is_idle for one in http._connections._open))
        assert await (await Client.to(http)).is_over()
        for one in working:
            assert await one.ask(b"}        ") == b"HTTP/1.1 400 Bad Request"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("said", "answer"),
    [
        pytest.param(b"", b"", id="silent"),
        pytest.param(LIVE[:20], b"HTTP/1.1 408 Request Timeout", id="half-a-head"),
        pytest.param(LIVE + LIVE[:20], b"HTTP/1.1 200 OK", id="half-a-head-after-a-whole"),
    ],
)
async def test_a_head_that_does_not_come_is_not_waited_for(said: bytes, answer: bytes) -> None:
    async with listening(10) as http:
        one = await Client.to(http)
        assert await one.ask(said) == answer
        await until(lambda: not len(http._connections))


@pytest.mark.usefixtures("quick")
async def test_a_body_that_was_refused_is_not_taken_for_ever() -> None:
    async with listening(10) as http:
        one = await Client.to(http)
        refused = POST.replace(b"application/json", b"text/plain")
        head = refused + b"content-length: 100000000\r\n\r\n"
        assert await one.ask(head) == b"HTTP/1.1 415 Unsupported Media Type"
        with suppress(ConnectionError):
            async with asyncio.timeout(300):
                while len(http._connections):
                    one._writer.write(b"x")
                    await asyncio.sleep(0.02)


async def test_a_body_in_crumbs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "FREE_CHUNK_COUNT", 100)
    async with listening(10) as http:
        one = await Client.to(http)
        head = POST + b"transfer-encoding: chunked\r\n\r\n"
        assert await one.ask(head + b"1\r\n \r\n" * 200) == b"HTTP/1.1 400 Bad Request"
        other = await Client.to(http)
        large = b"10000\r\n" + b" " * 65536 + b"\r\n"
        few = await other.ask(head + large + b"1\r\n \r\n" * 200 + b"0\r\n\r\n")
        assert few == b"HTTP/1.1 400 Bad Request"
        assert await other.ask(LIVE) == b"HTTP/1.1 200 OK"


@pytest.mark.usefixtures("quick")
async def test_an_answer_that_nobody_reads_is_not_kept() -> None:
    async with listening(10) as http:
        one = await Client.to(http)
        one._writer.transport.pause_reading()
        asked = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n"
        with suppress(ConnectionError):
            async with asyncio.timeout(300):
                while len(http._connections):
                    one._writer.write(asked * 100)
                    await asyncio.sleep(0.02)


@pytest.mark.usefixtures("quick")
async def test_a_handshake_that_does_not_come_is_not_waited_for(
    tls_files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_TIMEOUT_S", 0.1)
    context = ssl.create_default_context(cafile=tls_files.client_ca)
    async with listening(3, tls_files) as http:
        assert await (await Client.to(http)).is_over()
        silent = [await Client.to(http, context) for _ in range(4)]
        for one in silent:
            assert await one.is_over()


async def test_requests_over_tls_are_answered(tls_files: TlsFiles) -> None:
    context = ssl.create_default_context(cafile=tls_files.client_ca)
    async with listening(3, tls_files) as http:
        for _ in range(8):
            one = await Client.to(http, context)
            assert await one.ask(LIVE) == b"HTTP/1.1 200 OK"
            body = b'{"prompt": ""}' + b" " * 300_000
            head = POST + f"content-length: {len(body)}\r\n\r\n".encode()
            assert await one.ask(head + body) == b"HTTP/1.1 400 Bad Request"
        assert await (await Client.to(http)).ask(LIVE) == b""
