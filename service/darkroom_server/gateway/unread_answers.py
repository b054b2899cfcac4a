"""Answers on their way out: counted with all that waits, and cut off when it is too much.

Bound to the event loop.
"""

from __future__ import annotations

from typing import Any

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from darkroom_server.engine.undelivered import Undelivered
from darkroom_server.gateway.connections import CONNECTION
from darkroom_server.wire.calls import CallNotes, current_call

#: Bytes written to a connection at a time; twice this much of an answer is not counted.
PIECE_BYTES = 64 << 10

log = structlog.get_logger("darkroom.gateway")


class UnreadAnswers:
    """Middleware: gives answers to the connection bit by bit, as they are read."""

    def __init__(self, app: ASGIApp, undelivered: Undelivered) -> None:
        self._app = app
        self._undelivered = undelivered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one call."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(self._undelivered, scope, send)
        try:
            await self._app(scope, receive, answer.send)
        finally:
            answer.held.release()


class _Answer:
    """One answer. Mutable: what is held of it shrinks as it is read."""

    def __init__(self, undelivered: Undelivered, scope: Scope, send: Send) -> None:
        self._send = send
        self._notes: CallNotes = current_call()
        self._connection: Any = scope.get("state", {}).get(CONNECTION)
        self._is_counted_whole = False
        self._is_given_up = False
        self.held = undelivered.hold(self._give_up)

    async def send(self, message: Message) -> None:
        """Returns when the connection has taken it, or is cut off."""
        if message["type"] == "http.response.start":
            # It may have to wait before its first byte: another answer is before it.
            length = Headers(raw=message["headers"]).get("content-length", "")
            if length.isdecimal():
                self._is_counted_whole = True
                self.held.add(int(length))
        if message["type"] != "http.response.body":
            await self._send(message)
            return
        body = message.get("body", b"")
        if not self._is_counted_whole and not self._is_given_up:
            self.held.add(len(body))
        is_last = not message.get("more_body", False)
        for at in range(0, len(body) or 1, PIECE_BYTES):
            if self._is_given_up:
                return
            piece = body[at : at + PIECE_BYTES]
            ends = is_last and at + PIECE_BYTES >= len(body)
            await self._send({"type": message["type"], "body": piece, "more_body": not ends})
            self.held.drop(len(piece))

    def _give_up(self) -> None:
        """Cuts the connection off: what was sent of the answer cannot be taken back."""
        log.warning(
            "answer given up: too much of what was made waits to be read",
            unread_bytes=self.held.held_bytes,
            request_id=self._notes.request_id,
        )
        self._is_given_up = True
        self._notes.code = "RESULTS_UNREAD"
        self.held.release()
        connection = None if self._connection is None else self._connection()
        if connection is not None:
            connection.cut_off()
