"""Authenticates every HTTP call by its key, and reports the key's limits in headers."""

from __future__ import annotations

import math
import re

from fastapi import Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from darkroom_server.access.caller import Caller, set_caller
from darkroom_server.access.gate import Gate, Need
from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.keys import in_credits
from darkroom_server.gateway import connect
from darkroom_server.gateway.dialects import (
    events,
    fal,
    huggingface,
    hyperbolic,
    nebula,
    openai,
    replicate,
    triton,
)
from darkroom_server.gateway.error_responses import Render, problem_of, refusal

#: Named as OpenAI names them, whose clients and proxies read them.
_LIMIT, _REMAINING, _RESET = (
    f"x-ratelimit-{what}-requests" for what in ("limit", "remaining", "reset")
)
_CREDITS = "x-darkroom-credits-left"
STANDING_HEADERS = (_LIMIT, _REMAINING, _RESET, _CREDITS)

#: Probes, metrics, what a page needs before it can ask for a key; images whose names are secret.
_OPEN = re.compile(
    r"/|/docs|/playground/[^/]*|/files/[^/]+|/metrics|/openapi\.json|/v2/health/(live|ready)"
    r"|/v2/models/.+/ready|(/v1)?/health|(/hf-inference)?/models/.*/health"
)
#: What loads models, and posts that ask for no images.
_LOADS = re.compile(r"/v2/repository/models/.+/(un)?load")
_NO_IMAGES = re.compile(r".*/cancel|/v2/(?!models/.+/(infer|generate|generate_stream)$).*")
_RPC = re.compile(r"/darkroom\.v1\.[^/]+/.*")
#: How errors look where no route has been found yet; elsewhere they are Hugging Face's.
_RENDERS: tuple[tuple[re.Pattern[str], Render], ...] = (
    (re.compile("/darkroom/"), events.render),
    (re.compile("/v2(/|$)"), triton.render),
    (_RPC, connect.render),
    (re.compile("(/queue)?/fal-ai(/|$)"), fal.render),
    (re.compile("/api/v1/"), nebula.render),
    (re.compile("/v1/image/"), hyperbolic.render),
    (re.compile("/replicate/|/files/"), replicate.render),
    (re.compile("/v1/(predictions|models/.+/predictions$)"), replicate.render),
    *((re.compile(f"{prefix}/v1/"), openai.render) for prefix in openai.PROVIDERS),
)


class Authentication:
    """Middleware: finds the key and counts the request, before a byte of the body is read.

    RPCs are left to their interceptor, which has their error format.
    """

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one call."""
        if scope["type"] != "http" or is_rpc(scope["path"]):
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        try:
            authorization = Headers(scope=scope).get("authorization")
            caller = self._gate.enter(
                authorization, need_of(method, path), connection=connection_of(scope)
            )
        except DarkroomError as error:
            await refused(path, error)(scope, receive, send)
            return
        set_caller(caller)

        async def send_with_standing(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(standing_headers(caller))
            await send(message)

        try:
            if asks_for_images(method, path):
                await caller.count()
        except DarkroomError as error:
            await refused(path, error)(scope, receive, send_with_standing)
            return
        await self._app(scope, receive, send_with_standing)


def is_rpc(path: str) -> bool:
    """Whether a remote procedure call is made there."""
    return _RPC.fullmatch(path) is not None


def connection_of(scope: Scope) -> str:
    """The connection that a call comes over, as a name; empty where it is unknown."""
    client = scope.get("client")
    return "" if client is None else f"{client[0]}:{client[1]}"


def need_of(method: str, path: str) -> Need:
    """What a call needs; everything that is not known to be open needs a key."""
    if _LOADS.fullmatch(path):
        return Need.MANAGE
    is_open = method in ("GET", "HEAD") and _OPEN.fullmatch(path)
    return Need.NOTHING if is_open else Need.KEY


def asks_for_images(method: str, path: str) -> bool:
    """Whether the call counts towards the rate of its key, whatever its body turns out to be."""
    return method == "POST" and not _NO_IMAGES.fullmatch(path)


def refused(path: str, error: DarkroomError) -> Response:
    """The answer to a caller that is not let in, in the shape of the dialect at the path."""
    return refusal(problem_of(error), render_of(path))


def render_of(path: str) -> Render:
    """The error format of the path."""
    found = (render for beginning, render in _RENDERS if beginning.match(path))
    return next(found, huggingface.render)


def standing_headers(caller: Caller) -> dict[str, str]:
    """How the caller's key stands, as far as it has limits and the call has asked for something."""
    headers = {}
    if caller.rate is not None:
        headers[_LIMIT] = str(caller.rate.limit_count)
        headers[_REMAINING] = str(caller.rate.remaining_count)
        headers[_RESET] = f"{math.ceil(caller.rate.reset_s)}s"
    if caller.balance is not None and caller.balance.left is not None:
        headers[_CREDITS] = f"{in_credits(caller.balance.left):.6f}"
    return headers
