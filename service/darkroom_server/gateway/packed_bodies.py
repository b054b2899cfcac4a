"""Bodies that are packed: unpacked for Connect alone, and refused where they would not be read."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from darkroom_server.domain.errors import UnsupportedEncoding
from darkroom_server.gateway.authentication import is_rpc, refused


class PackedBodies:
    """Middleware: answers a body with a content encoding before a byte of it is read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one call."""
        if scope["type"] == "http" and not is_rpc(scope["path"]):
            encoding = Headers(scope=scope).get("content-encoding", "").strip().lower()
            if encoding not in ("", "identity"):
                text = f"the body is packed as {encoding!r}; send it without content-encoding"
                answer = refused(scope["path"], UnsupportedEncoding(text))
                answer.headers["accept-encoding"] = "identity"
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)
