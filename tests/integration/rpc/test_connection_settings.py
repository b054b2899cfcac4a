"""What the settings of connections do, seen by a caller that speaks HTTP/2 by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from bench.raw_http2 import GOAWAY, PING, WATCH, Frame, RawConnection, message
from darkroom_server.access.gate import Gate, GateOptions
from darkroom_server.rpc.server import GrpcOptions, build_server
from darkroom_server.telemetry.metrics import Metrics
from tests.integration.rpc.fake_engine import FakeEngine

WAIT_S = 120.0
#: A ping that goes unanswered would have a minute by gRPC's own default.
PING_TIMEOUT_S = 45.0


class Watching(RawConnection):
    """A caller with a stream that goes on; one that is deaf answers no ping."""

    def __init__(self, address: str, *, is_deaf: bool = False) -> None:
        super().__init__(address)
        self._is_deaf = is_deaf
        self.is_open = True
        self.stream = self.open(WATCH)
        self.send(self.stream, message(b""))
        self.end(self.stream)

    def _take(self, one: Frame) -> None:
        if one.kind == PING and self._is_deaf:
            self.frames.append(one)
        else:
            super()._take(one)

    def until(self, holds: Callable[[], bool], wait_s: float = WAIT_S) -> None:
        until_s = time.monotonic() + wait_s
        while not holds():
            assert time.monotonic() < until_s
            self.is_open = self.read(0.2) and self.is_open

    def has(self, kind: int) -> bool:
        return any(one.kind == kind for one in self.frames)


@asynccontextmanager
async def served(**options: float) -> AsyncIterator[str]:
    """The address of a server with these options."""
    server = build_server(
        FakeEngine(),
        GrpcOptions(
            host="127.0.0.1",
            port=0,
            max_receive_message_bytes=1 << 20,
            max_concurrent_streams=10,
            **options,
        ),
        Metrics(),
        Gate(GateOptions()),
    )
    await server.start()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        await server.stop(grace_s=0)


@pytest.mark.parametrize("is_deaf", [False, True], ids=["answers", "deaf"])
async def test_a_silent_connection_is_pinged_and_closed_if_that_goes_unanswered(
    is_deaf: bool,
) -> None:
    async with served(keepalive_time_s=0.2, keepalive_timeout_s=0.2) as address:
        caller = await asyncio.to_thread(Watching, address, is_deaf=is_deaf)
        with caller.socket:
            if is_deaf:
                await asyncio.to_thread(caller.until, lambda: not caller.is_open, PING_TIMEOUT_S)
            else:

                def pinged() -> bool:
                    return sum(one.kind == PING for one in caller.frames) >= 3

                await asyncio.to_thread(caller.until, pinged)
                assert caller.is_open
                assert not caller.has_ended(caller.stream)


async def test_an_old_connection_is_told_to_go_and_its_calls_go_on_for_the_grace() -> None:
    async with served(max_age_s=0.3, age_grace_s=600.0) as address:
        caller = await asyncio.to_thread(Watching, address)
        with caller.socket:
            await asyncio.to_thread(caller.until, lambda: caller.has(GOAWAY))
            assert caller.is_open
            assert not caller.has_ended(caller.stream)


async def test_after_the_grace_an_old_connection_is_closed() -> None:
    async with served(max_age_s=0.3, age_grace_s=0.3) as address:
        caller = await asyncio.to_thread(Watching, address)
        with caller.socket:
            await asyncio.to_thread(caller.until, lambda: not caller.is_open)
            assert caller.has(GOAWAY)


async def test_a_connection_without_a_call_is_told_to_go() -> None:
    async with served(idle_timeout_s=0.3) as address:
        caller = await asyncio.to_thread(RawConnection, address)

        def goes() -> bool:
            until_s = time.monotonic() + WAIT_S
            while time.monotonic() < until_s:
                if not caller.read(0.2) or any(one.kind == GOAWAY for one in caller.frames):
                    return True
            return False

        with caller.socket:
            assert await asyncio.to_thread(goes)
