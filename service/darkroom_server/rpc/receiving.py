"""Receives request messages: each has a time limit, and few slow ones are received at a time.

gRPC delivers a message only when it has arrived completely, and buffers it until then. So one that
is not there immediately counts as one of the largest size allowed. Bound to the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from grpc import aio

from darkroom_server.domain.errors import BodyTimeout, QueueFull

_Context = aio.ServicerContext[Any, Any]

#: Most that messages that take long may hold together, and half of it on one connection.
MAX_HELD_BYTES = 1 << 30
_MIN_SLOW_COUNT = 2
#: Within it, most messages are there with the headers, and none has had the time to be large.
QUICK_S = 0.05
#: How long one may take before it has to make way for others.
KEPT_S = 5.0
#: Streams whose callers may be silent between two messages, and half of it on one connection.
MAX_PAUSED_COUNT = 256
#: Retry delay sent to a caller whose message had no room.
FULL_RETRY_S = 2.0


@dataclass(slots=True, eq=False)
class Slow:
    """One message that takes long. `task` waits for it."""

    connection: str
    began_s: float
    task: asyncio.Task[Any] | None = None
    is_cut_off: bool = False


@dataclass(slots=True)
class SlowMessages:
    """Those that take long now, in the order in which they began. Pure: time is an argument."""

    max_count: int
    _all: list[Slow] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._all)

    def add(self, new: Slow, now_s: float) -> Slow | None:
        """Takes one more; returns the one that has to go for it, which may be itself.

        It is the oldest of the connection that has most, if it has had its time: who begins many
        and finishes none is in nobody's way for longer.
        """
        self._all.append(new)
        own = [one for one in self._all if one.connection == new.connection]
        if len(own) > max(1, self.max_count // 2):
            return self._gone(own, new, now_s)
        if len(self._all) > self.max_count:
            return self._gone(self._fullest(), new, now_s)
        return None

    def discard(self, one: Slow) -> None:
        """It is there, or was given up."""
        if one in self._all:
            self._all.remove(one)

    def _fullest(self) -> list[Slow]:
        """Those of the connection that has most."""
        by_connection: dict[str, list[Slow]] = {}
        for one in self._all:
            by_connection.setdefault(one.connection, []).append(one)
        return max(by_connection.values(), key=len)

    def _gone(self, among: Sequence[Slow], new: Slow, now_s: float) -> Slow:
        oldest = among[0]
        gone = oldest if now_s - oldest.began_s >= KEPT_S else new
        self._all.remove(gone)
        return gone


class Receiving:
    """Reads the messages of all calls."""

    def __init__(self, *, max_message_bytes: int, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.slow = SlowMessages(max(_MIN_SLOW_COUNT, MAX_HELD_BYTES // max_message_bytes))
        self.paused = SlowMessages(MAX_PAUSED_COUNT)

    async def message(self, context: _Context) -> bytes | None:
        """The next message of a call; None when there are no more.

        Raises BodyTimeout, and QueueFull when there is no room for one that takes long.
        """
        return await self._read(context, self.slow, self._timeout_s)

    async def later_message(self, context: _Context) -> bytes | None:
        """As `message`, of a stream that stays open: its caller has as long as it likes.

        Raises QueueFull, BodyTimeout.
        """
        return await self._read(context, self.paused, None)

    async def _read(
        self, context: _Context, among: SlowMessages, timeout_s: float | None
    ) -> bytes | None:
        task = asyncio.current_task()
        one = Slow(context.peer(), time.monotonic(), task)
        timer = asyncio.get_running_loop().call_later(QUICK_S, _takes_long, one, among)
        try:
            async with asyncio.timeout(timeout_s):
                content: Any = await context.read()
        except TimeoutError:
            raise BodyTimeout("The request did not come in time; send it faster.") from None
        except asyncio.CancelledError:
            if not one.is_cut_off or task is None or task.uncancel() > 0:
                raise
            raise QueueFull(
                "The server receives as many large requests as it can.", retry_after_s=FULL_RETRY_S
            ) from None
        finally:
            timer.cancel()
            among.discard(one)
        return None if content is aio.EOF else content


def _takes_long(one: Slow, among: SlowMessages) -> None:
    gone = among.add(one, time.monotonic())
    if gone is not None and gone.task is not None:
        gone.is_cut_off = True
        gone.task.cancel()
