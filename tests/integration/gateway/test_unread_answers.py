"""Answers that nobody reads, over real sockets: bounded in all, whatever way they come."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import structlog

from darkroom_server.access.gate import Gate, GateOptions
from darkroom_server.engine.undelivered import Undelivered
from darkroom_server.gateway.connect import Servicers
from darkroom_server.gateway.server import HttpOptions, HttpServer, build_http_server
from darkroom_server.gateway.unread_answers import PIECE_BYTES
from darkroom_server.rpc.server import servicers
from darkroom_server.telemetry.metrics import Metrics
from tests.integration.rpc.fake_engine import COMPLETED, FakeEngine, image
from tests.unit.image_decoding.pictures_here import PicturesHere

#: What the kernel takes of an answer at the server's end, and an image that is far more.
SOCKET_BYTES, IMAGE_BYTES = 64 << 10, 1 << 20
#: Less than what is then left of all answers, and more than one.
MAX_BYTES = 3 << 20
READER_COUNT = 8
LEAST_GIVEN_UP_COUNT = 2

JSON = "application/json"
WAYS = {
    "openai": ("/v1/images/generations", {"prompt": "x", "response_format": "b64_json"}),
    "nebula": ("/api/v1/images/generation", {"prompt": "x"}),
    "hyperbolic": ("/v1/image/generation", {"prompt": "x", "model_name": "sdxl"}),
    "hugging-face": ("/models/sdxl", {"inputs": "x"}),
    "fal-sync": ("/fal-ai/sdxl", {"prompt": "x", "sync_mode": True}),
    "openai-stream": ("/v1/images/generations", {"prompt": "x", "stream": True}),
    "events": ("/darkroom/v1/generate", {"prompt": "x"}),
}
#: In messages of less than an image: the rest waits with the engine, which counts it.
RPC = ("/darkroom.v1.ImageService/Generate", {"prompt": "x"})


@dataclass(frozen=True, slots=True)
class Served:
    http: HttpServer
    undelivered: Undelivered

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.port}"


@asynccontextmanager
async def served() -> AsyncIterator[Served]:
    engine: Any = FakeEngine()
    engine.script = [image(content=bytes(IMAGE_BYTES)), COMPLETED]
    engine.undelivered = Undelivered(max_bytes=MAX_BYTES, max_call_bytes=MAX_BYTES // 2)
    found = Servicers(*servicers(engine, PicturesHere()))
    options = HttpOptions("127.0.0.1", 0, 8001, pictures=PicturesHere())
    made = build_http_server(engine, options, Metrics(), Gate(GateOptions()), found)
    # Connections have what their listener has.
    made._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
    made.start()
    yield Served(made, engine.undelivered)
    await made.stop()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


class Silent:
    """Asks, and reads nothing but the end of its connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.transport: Any = writer.transport
        self._reader = reader

    @classmethod
    async def ask(cls, port: int, request: bytes) -> Silent:
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.setblocking(False)
        await asyncio.get_running_loop().sock_connect(small, ("127.0.0.1", port))
        made = cls(*await asyncio.open_connection(sock=small))
        made.transport.pause_reading()
        made._writer.write(request)
        return made

    def close(self) -> None:
        self.transport.abort()


def request_of(way: str) -> bytes:
    path, body = WAYS.get(way, RPC)
    kind, raw = JSON, json.dumps(body).encode()
    if way not in WAYS:
        kind = "application/connect+json"
        raw = b"\0" + len(raw).to_bytes(4, "big") + raw
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\n"
    return f"{head}content-length: {len(raw)}\r\n\r\n".encode() + raw


@pytest.mark.parametrize("way", WAYS)
async def test_those_go_who_read_nothing(way: str) -> None:
    async with served() as at:
        with structlog.testing.capture_logs() as log:
            silent = [await Silent.ask(at.http.port, request_of(way)) for _ in range(READER_COUNT)]

            def given_up() -> int:
                return sum("answer given up" in line["event"] for line in log)

            await until(lambda: given_up() >= LEAST_GIVEN_UP_COUNT)
            assert at.undelivered.total_bytes <= MAX_BYTES
        path, body = WAYS["openai"]
        async with httpx.AsyncClient(base_url=at.url, timeout=60) as client:
            answer = await client.post(path, json=body)
            assert answer.status_code == 200
            assert len(answer.json()["data"][0]["b64_json"]) == -(-IMAGE_BYTES // 3) * 4
        for one in silent:
            one.close()
        await until(lambda: at.undelivered.total_bytes == 0)


async def test_downloads_count_too() -> None:
    async with served() as at, httpx.AsyncClient(base_url=at.url, timeout=60) as client:
        body = {"prompt": "x", "response_format": "url"}
        made = await client.post("/v1/images/generations", json=body)
        path = httpx.URL(made.json()["data"][0]["url"]).path
        asked = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()
        with structlog.testing.capture_logs() as log:
            silent = [await Silent.ask(at.http.port, asked) for _ in range(READER_COUNT)]

            def given_up() -> int:
                return sum("answer given up" in line["event"] for line in log)

            await until(lambda: given_up() >= LEAST_GIVEN_UP_COUNT)
        assert (await client.get(path)).content == bytes(IMAGE_BYTES)
        for one in silent:
            one.close()
        await until(lambda: at.undelivered.total_bytes == 0)


async def test_who_reads_slowly_is_served_among_those_who_do_not() -> None:
    async with served() as at, httpx.AsyncClient(base_url=at.url, timeout=60) as client:
        path, body = WAYS["openai"]
        async with client.stream("POST", path, json=body) as answer:
            pieces, silent, read_bytes = answer.aiter_raw(PIECE_BYTES), [], 0
            async for piece in pieces:
                read_bytes += len(piece)
                if len(silent) < READER_COUNT:
                    silent.append(await Silent.ask(at.http.port, request_of("openai")))
            assert read_bytes == int(answer.headers["content-length"])
        for one in silent:
            one.close()


async def test_an_answer_behind_another_on_its_connection_counts() -> None:
    async with served() as at:
        asked = request_of("openai")
        one = await Silent.ask(at.http.port, asked + asked)
        await until(lambda: at.undelivered.total_bytes > IMAGE_BYTES)
        one.close()
        await until(lambda: at.undelivered.total_bytes == 0)


async def test_messages_of_rpcs_count_too() -> None:
    async with served() as at:
        one = await Silent.ask(at.http.port, request_of("rpc"))
        await until(lambda: at.undelivered.total_bytes > 0)
        one.close()
        await until(lambda: at.undelivered.total_bytes == 0)
