"""Unhandled errors: logged whole, and answered with their request's id alone."""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from darkroom_server.gateway.access_log import request_id_of
from darkroom_server.gateway.authentication import render_of
from darkroom_server.gateway.error_responses import internal_problem, refusal
from darkroom_server.wire.calls import REQUEST_ID_KEY, log_bug

log = structlog.get_logger("darkroom.gateway")


class UnhandledErrors:
    """The innermost middleware: what the others add to an answer is added to this one too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one call; raises what happens once its answer has begun."""
        has_begun = False

        async def noting_send(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except Exception:
            if has_begun or scope["type"] != "http":
                raise
            await _answer(Request(scope))(scope, receive, send)


def add_bug_handler(app: FastAPI) -> None:
    """For what happens outside of `UnhandledErrors`, and what it raises."""

    @app.exception_handler(Exception)
    async def answer(request: Request, _: Exception) -> Response:
        response = _answer(request)
        response.headers[REQUEST_ID_KEY] = request_id_of(request)
        return response


def _answer(request: Request) -> Response:
    request_id = request_id_of(request)
    log_bug(request_id, log)
    render = getattr(request.state, "render", None) or render_of(request.scope["path"])
    return refusal(internal_problem(request_id), render)
