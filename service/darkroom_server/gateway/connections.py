"""HTTP connections: a maximum number, and time limits for connections without a complete request.

uvicorn's limits apply to requests that have arrived; a client that sends nothing, or the head of
its request very slowly, is only handled here. Bound to the event loop.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: How long a connection may take to shake hands, and then to say what it asks for.
HEAD_TIMEOUT_S = 10.0
MAX_HEAD_BYTES = 64 << 10
#: How long the rest of a body is taken, and thrown away, that was answered before it had come.
LINGER_S = 10.0
#: How long an answer may lie unread, and how much longer for what is left of it.
UNREAD_TIMEOUT_S = 60.0
MIN_READ_BYTES_PER_S = 16 << 10
#: Most chunks of a body, each of which costs as much as a small request: this number,
#: and one more for each of these bytes.
FREE_CHUNK_COUNT = 4096
BYTES_PER_CHUNK = 512

#: Under which name a call's state has a weak reference to its connection.
CONNECTION = "connection"
_LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Connections:
    """Those that are open. `max_count` is below what the process may have of open files."""

    def __init__(self, max_count: int) -> None:
        self._max_count = max_count
        self._open: set[HttpConnection] = set()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, new: HttpConnection) -> bool:
        """Takes one more, if need be in the place of one that asks for nothing.

        First those go that never have asked, the oldest before the others: who opens many and is
        silent costs nobody anything. False where all are active.
        """
        if len(self._open) >= self._max_count:
            idle = [one for one in self._open if one.is_idle]
            if not idle:
                return False
            self.remove(min(idle, key=lambda one: (one.has_asked, one.since_s)))
        self._open.add(new)
        return True

    def remove(self, one: HttpConnection) -> None:
        """Closes it at once."""
        self._open.discard(one)
        one.cut_off()

    def closed(self, one: HttpConnection) -> None:
        """It is closed."""
        self._open.discard(one)

    def check(self, now_s: float) -> None:
        """Closes those whose time is over; `now_s` is on the monotonic clock."""
        for one in tuple(self._open):
            if one.is_late(now_s):
                self.remove(one)

    def close(self) -> None:
        """Closes those that still are open."""
        for one in tuple(self._open):
            self.remove(one)


class HttpConnection(H11Protocol):
    """A connection, over TLS once hands are shaken, that knows since when it is as it is."""

    def __init__(self, *args: Any, registry: Connections, **named: Any) -> None:
        super().__init__(*args, **named)
        self._registry = registry
        self.conn = _BoundedChunks(h11.SERVER, MAX_HEAD_BYTES)
        self.app_state = {**self.app_state, CONNECTION: weakref.ref(self)}
        #: Since when it is as it is: silent, or answered.
        self.since_s = time.monotonic()
        #: Whether it has been answered before.
        self.has_asked = False
        self._unread_since_s: float | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no request of it is being answered or has begun to come whole."""
        return self.conn.their_state is h11.IDLE

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It is there."""
        super().connection_made(transport)
        self.since_s = time.monotonic()
        if not self._registry.add(self):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed, by whomever."""
        self._registry.closed(self)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """An answer is sent: a request may follow."""
        self.since_s, self.has_asked = time.monotonic(), True
        super().on_response_complete()

    def pause_writing(self) -> None:
        """More is to be sent than the caller reads."""
        self._unread_since_s = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It has read it."""
        self._unread_since_s = None
        super().resume_writing()

    def is_late(self, now_s: float) -> bool:
        """Whether its time is over: to ask, to end a body that is not wanted, or to read."""
        if self.is_idle:
            return now_s - self.since_s > HEAD_TIMEOUT_S
        if self._unread_since_s is not None:
            left_bytes = self.transport.get_write_buffer_size()
            limit_s = UNREAD_TIMEOUT_S + left_bytes / MIN_READ_BYTES_PER_S
            return now_s - self._unread_since_s > limit_s
        is_answered = self.cycle is not None and self.cycle.response_complete
        return is_answered and now_s - self.since_s > LINGER_S

    def cut_off(self) -> None:
        """Closes it; a client that had begun a request gets an error first."""
        if self.is_idle and self.conn.trailing_data[0]:
            self.transport.write(_LATE)
            self.transport.close()
        else:
            self.transport.abort()


class _BoundedChunks(h11.Connection):
    """Refuses a body in crumbs."""

    _chunk_count = 0
    _body_bytes = 0

    def next_event(self) -> Any:
        """As the library's; raises RemoteProtocolError."""
        event = super().next_event()
        if isinstance(event, h11.Data):
            self._chunk_count += 1
            self._body_bytes += len(event.data)
            if self._chunk_count > FREE_CHUNK_COUNT + self._body_bytes // BYTES_PER_CHUNK:
                raise h11.RemoteProtocolError("the body comes in crumbs", error_status_hint=400)
        elif isinstance(event, h11.Request):
            self._chunk_count = self._body_bytes = 0
        return event
