"""Every HTTP call has an id, which its answer and its log line carry."""

from __future__ import annotations

import re
import time
import uuid
from contextvars import ContextVar

import structlog
from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID_HEADER = "x-request-id"
#: What clients of Hugging Face send instead.
_TRACE_HEADER = "x-amzn-trace-id"
_SANE_ID = re.compile(r"[!-~]{1,128}")
#: Probes and scrapes come every few seconds; their lines would bury the others.
_QUIET_PATHS = ("/v2/", "/metrics")

#: The id of the call that the task answers.
_current: ContextVar[str] = ContextVar("http request id", default="")

log = structlog.get_logger("darkroom.gateway")


class RequestIds:
    """Middleware: the caller's id if it is sane, else one made here; and the access line."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one call."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id
        _current.set(request_id)
        started_s = time.monotonic()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).setdefault(REQUEST_ID_HEADER, request_id)
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            duration_ms = round((time.monotonic() - started_s) * 1000, 1)
            quiet = scope["path"].startswith(_QUIET_PATHS)
            write = log.debug if quiet else log.info
            # A status of 0: it ended without an answer.
            write(
                "http call",
                method=scope["method"],
                path=scope["path"],
                status=status,
                duration_ms=duration_ms,
                request_id=request_id,
            )


def current_request_id() -> str:
    """The id of the call that the task answers."""
    return _current.get()


def request_id_of(request: Request) -> str:
    """The id of the call."""
    return str(request.state.request_id)


def _request_id(headers: Headers) -> str:
    for name in (REQUEST_ID_HEADER, _TRACE_HEADER):
        value = headers.get(name, "")
        if _SANE_ID.fullmatch(value):
            return value
    return uuid.uuid4().hex
