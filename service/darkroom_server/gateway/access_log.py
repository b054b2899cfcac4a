"""Every HTTP call has an id, which its answer and its log line carry, and is counted."""

from __future__ import annotations

import re
import time

import structlog
from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from darkroom_server.telemetry.metric_list import HTTP_REQUESTS, HTTP_SECONDS
from darkroom_server.telemetry.metrics import Metrics
from darkroom_server.telemetry.traces import begin_span, headers_of
from darkroom_server.wire.calls import REQUEST_ID_KEY, CallNotes, begin_call, request_id

#: What clients of Hugging Face send instead.
_TRACE_HEADER = "x-amzn-trace-id"
#: Others are no label: callers can make them up.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FIRST_FAILURE = 500
#: Probes come every few seconds, and a page is a score of files: they would bury other lines.
_QUIET = re.compile("/v2/health/.*|/v2/models/.*/ready|/metrics|/playground/.*")

log = structlog.get_logger("darkroom.gateway")


class RequestIds:
    """Middleware: the caller's id if it is sane, else one made here; access line and metrics."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one call."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_quiet = _QUIET.fullmatch(scope["path"]) is not None
        notes = CallNotes(
            request_id(headers.get(REQUEST_ID_KEY), headers.get(_TRACE_HEADER)),
            span=begin_span("HTTP", headers, is_exported=not is_quiet),
            metrics=self._metrics,
        )
        begin_call(notes)
        scope.setdefault("state", {})["request_id"] = notes.request_id
        started_s = time.monotonic()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {REQUEST_ID_KEY: notes.request_id, **headers_of(notes.span)}
                for name, value in own.items():
                    MutableHeaders(scope=message).setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            self._log(scope, notes, status, time.monotonic() - started_s, is_quiet=is_quiet)

    def _log(
        self, scope: Scope, notes: CallNotes, status: int, duration_s: float, *, is_quiet: bool
    ) -> None:
        """Counts the call and writes the access line. A status of 0: it ended without an answer."""
        route = _route(scope, notes)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.count(HTTP_REQUESTS, (method, route, notes.model, str(status)))
        self._metrics.observe(HTTP_SECONDS, (method, route), duration_s)
        said = {"method": scope["method"], "path": scope["path"], "status": status}
        notes.log(log, "http call", duration_s, quiet=is_quiet, **said)
        notes.span.update_name(f"{method} {route}")
        # A caller who left before there was a status is no failure of the server.
        notes.ended(str(status) if status >= _FIRST_FAILURE else "")


def _route(scope: Scope, notes: CallNotes) -> str:
    """The route's template: paths are made up by callers, and each would be a series."""
    return notes.rpc or getattr(scope.get("route"), "path", "none")


def request_id_of(request: Request) -> str:
    """The id of the call."""
    return str(request.state.request_id)
