"""What is held of bodies that are not parsed yet: bounded for each by time, and in all by bytes.

Bound to the event loop.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from darkroom_server.domain.errors import BodyTimeout, QueueFull

#: Most that bodies hold together until they are parsed.
MAX_HELD_BYTES = 512 << 20
#: How long a body may take, and how much longer for what has come of it, and how long it may pause:
#: a slow connection is served, a caller that sends a byte from time to time is not.
BODY_TIMEOUT_S = 30.0
MIN_BYTES_PER_S = 16 << 10
#: Retry delay sent to a caller whose body had no room.
FULL_RETRY_S = 2.0


@dataclass(slots=True, eq=False)
class Hold:
    """What is held of one body. Mutable: it grows as the body comes."""

    began_s: float
    #: When the last piece came.
    last_s: float = 0.0
    held_bytes: int = 0
    is_whole: bool = False
    #: Waits for more of it.
    waiting: asyncio.Task[object] | None = None
    is_cut_off: bool = False

    def due_s(self) -> float:
        """When the next piece must have come."""
        whole_s = self.began_s + BODY_TIMEOUT_S + self.held_bytes / MIN_BYTES_PER_S
        return min(whole_s, max(self.began_s, self.last_s) + BODY_TIMEOUT_S)


class Holds:
    """All that is held. `max_bytes` is more than one body may have."""

    def __init__(self, max_bytes: int = MAX_HELD_BYTES) -> None:
        self._max_bytes = max_bytes
        self._held_bytes: dict[Hold, int] = {}
        #: Bytes held now.
        self.total_bytes = 0

    def grow(self, hold: Hold, piece_bytes: int) -> None:
        """Makes room for a piece: the bodies that others have been sending longest are cut off.

        So who sends many and finishes none is in nobody's way. Raises QueueFull when the bodies
        are whole and wait to be parsed.
        """
        while self.total_bytes + piece_bytes > self._max_bytes:
            oldest = next((one for one in self._held_bytes if one.waiting is not None), None)
            if oldest is None or oldest.waiting is None:
                raise no_room()
            oldest.is_cut_off = True
            oldest.waiting.cancel()
            oldest.waiting = None
            self.release(oldest)
        hold.held_bytes += piece_bytes
        self._held_bytes[hold] = hold.held_bytes
        self.total_bytes += piece_bytes

    def release(self, hold: Hold) -> None:
        """It is parsed, or its call is over; once, however often it is called."""
        self.total_bytes -= self._held_bytes.pop(hold, 0)


def no_room() -> QueueFull:
    """The answer to a caller whose body cannot be held."""
    return QueueFull("The server holds as many bodies as it can.", retry_after_s=FULL_RETRY_S)


_current: ContextVar[tuple[Holds, Hold] | None] = ContextVar("body", default=None)


def body_parsed() -> None:
    """The body of the call that this task answers is held no longer."""
    found = _current.get()
    if found is not None:
        holds, hold = found
        holds.release(hold)


class BodyHolds:
    """Middleware: bodies come in time and find room, or to read them raises BodyTimeout or
    QueueFull.
    """

    def __init__(self, app: ASGIApp, holds: Holds) -> None:
        self._app = app
        self._holds = holds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one call."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        hold = Hold(time.monotonic())
        _current.set((self._holds, hold))

        async def bounded() -> Message:
            # What comes after the body is that the caller has gone, at any time.
            return await receive() if hold.is_whole else await self._next(hold, receive)

        try:
            await self._app(scope, bounded, send)
        finally:
            self._holds.release(hold)

    async def _next(self, hold: Hold, receive: Receive) -> Message:
        task = asyncio.current_task()
        hold.waiting = task
        try:
            # Both clocks are monotonic, and their difference is all that is used.
            async with asyncio.timeout(max(0.0, hold.due_s() - time.monotonic())):
                message = await receive()
        except TimeoutError:
            raise BodyTimeout("The body did not come in time; send it faster.") from None
        except asyncio.CancelledError:
            if not hold.is_cut_off or task is None or task.uncancel() > 0:
                raise
            raise no_room() from None
        finally:
            hold.waiting = None
        if message["type"] == "http.request":
            hold.is_whole = not message.get("more_body", False)
            hold.last_s = time.monotonic()
            self._holds.grow(hold, len(message.get("body", b"")))
        return message
