"""Bodies that do not come, and more of them than there is room for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from darkroom_server.domain.errors import BodyTimeout, QueueFull
from darkroom_server.gateway import body_holds
from darkroom_server.gateway.bodies import off_loop
from darkroom_server.gateway.body_holds import BodyHolds, Hold, Holds

SCOPE: dict[str, Any] = {"type": "http"}


async def never(message: Any) -> None:
    raise AssertionError(message)


class Caller:
    """Sends what it is told to, and notes how reading its body ended."""

    def __init__(self, holds: Holds) -> None:
        self.pieces: asyncio.Queue[tuple[int, bool]] = asyncio.Queue()
        self.parses = False
        self.is_parsed = asyncio.Event()
        self.call = asyncio.create_task(BodyHolds(self._app, holds)(SCOPE, self._receive, never))

    async def _receive(self) -> Any:
        length_bytes, more = await self.pieces.get()
        return {"type": "http.request", "body": bytes(length_bytes), "more_body": more}

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        del scope, send
        while (await receive())["more_body"]:
            pass
        if self.parses:
            await off_loop(int)
            self.is_parsed.set()
        await asyncio.Event().wait()

    async def send(self, length_bytes: int, *, more: bool = True) -> None:
        self.pieces.put_nowait((length_bytes, more))
        for _ in range(20):
            await asyncio.sleep(0)


async def gone(*callers: Caller) -> None:
    for one in callers:
        one.call.cancel()
    await asyncio.gather(*(one.call for one in callers), return_exceptions=True)


async def test_the_oldest_that_still_comes_makes_room() -> None:
    holds = Holds(max_bytes=100)
    whole, old, young = Caller(holds), Caller(holds), Caller(holds)
    await whole.send(40, more=False)
    await old.send(30)
    await young.send(30)
    assert holds.total_bytes == 100
    new = Caller(holds)
    await new.send(20)
    with pytest.raises(QueueFull, match="as many bodies as it can"):
        await old.call
    assert holds.total_bytes == 90
    await new.send(30)
    with pytest.raises(QueueFull):
        await young.call
    assert holds.total_bytes == 90
    # What is whole waits to be parsed, and is not taken from its caller.
    await new.send(30)
    with pytest.raises(QueueFull):
        await new.call
    assert holds.total_bytes == 40
    await gone(whole)
    assert holds.total_bytes == 0


async def test_a_body_is_held_until_it_is_parsed() -> None:
    holds = Holds()
    caller = Caller(holds)
    caller.parses = True
    await caller.send(10, more=False)
    await caller.is_parsed.wait()
    assert not caller.call.done()
    assert holds.total_bytes == 0
    await gone(caller)


async def test_one_that_is_cancelled_is_cancelled_and_leaves_nothing() -> None:
    holds = Holds()
    caller = Caller(holds)
    await caller.send(10)
    caller.call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller.call
    assert holds.total_bytes == 0


async def test_a_body_that_does_not_come_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_holds, "BODY_TIMEOUT_S", 0.0)
    caller = Caller(Holds())
    with pytest.raises(BodyTimeout, match="did not come in time"):
        await caller.call


def test_a_slow_line_has_the_time_that_it_takes_and_a_trickle_has_not() -> None:
    began_s = 1000.0
    slow = Hold(began_s, last_s=2000.0, held_bytes=32 << 20)
    trickle = Hold(began_s, last_s=1029.0, held_bytes=60)
    stopped = Hold(began_s, last_s=1001.0, held_bytes=32 << 20)
    assert slow.due_s() == 2030
    assert 1030 < trickle.due_s() < 1031
    assert stopped.due_s() == 1031


async def test_what_comes_after_the_body_may_take_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = asyncio.Event()

    async def receive() -> Any:
        if waiting.is_set():
            await asyncio.Event().wait()
        waiting.set()
        return {"type": "http.request", "body": b"abcdefghi", "more_body": False}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        del scope, send
        await receive()
        await receive()

    # The first must come at once, and is there; nothing is asked of the second.
    monkeypatch.setattr(Hold, "due_s", lambda self: self.began_s + (0 if waiting.is_set() else 60))
    call = asyncio.create_task(BodyHolds(app, Holds())(SCOPE, receive, never))
    await waiting.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not call.done()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
