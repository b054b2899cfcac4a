"""gRPC-Web as text: base64 in both directions, in pieces that may each be padded."""

from __future__ import annotations

import base64
import binascii
import re

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BINARY, _TEXT = "application/grpc-web", "application/grpc-web-text"
_PIECE = re.compile(rb"[^=]+={0,2}")
#: Pieces of one body, each of which costs time by itself: far more than clients flush.
MAX_PIECE_COUNT = 4096


class TextCalls:
    """Puts the binary protocol's bytes where the text of such a call is, and text for the answer's.

    Other calls are passed on unchanged.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one call."""
        content_type = Headers(scope=scope).get("content-type", "").lower()
        if not content_type.startswith(_TEXT):
            await self._app(scope, receive, send)
            return
        inner = {**scope, "headers": [*scope["headers"]]}
        MutableHeaders(scope=inner)["content-type"] = content_type.replace(_TEXT, _BINARY, 1)
        decoder = TextDecoder()

        async def receive_binary() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                is_last = not message.get("more_body", False)
                message = {**message, "body": decoder.decode(message.get("body", b""), is_last)}
            return message

        async def send_text(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=[*message["headers"]])
                kind = headers.get("content-type", "")
                if kind.startswith(_BINARY):
                    headers["content-type"] = kind.replace(_BINARY, _TEXT, 1)
                del headers["content-length"]
                message = {**message, "headers": headers.raw}
            elif message["type"] == "http.response.body":
                # Padded, so that a message can be read before the next one begins.
                message = {**message, "body": base64.b64encode(message.get("body", b""))}
            await send(message)

        await self._app(inner, receive_binary, send_text)


class TextDecoder:
    """Base64 that comes bit by bit; what is no whole group of four waits for the rest."""

    def __init__(self) -> None:
        self._rest = b""
        self._piece_count = 0

    def decode(self, text: bytes, is_last: bool) -> bytes:
        """The bytes that are whole by now; raises ConnectError."""
        text = self._rest + text.translate(None, b" \t\r\n")
        whole_count = len(text) if is_last else len(text) // 4 * 4
        text, self._rest = text[:whole_count], text[whole_count:]
        pieces = _PIECE.findall(text)
        self._piece_count += sum(piece.endswith(b"=") for piece in pieces)
        if self._piece_count > MAX_PIECE_COUNT:
            raise ConnectError(Code.INVALID_ARGUMENT, "the body comes in too many padded pieces")
        try:
            if sum(map(len, pieces)) != len(text):
                raise binascii.Error("padding of nothing")
            return b"".join(map(_decoded, pieces))
        except binascii.Error as error:
            raise ConnectError(Code.INVALID_ARGUMENT, "the body is no base64") from error


def _decoded(piece: bytes) -> bytes:
    text = piece.rstrip(b"=")
    return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
