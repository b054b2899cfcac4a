"""The RPCs for browsers: the Connect protocol and gRPC-Web, by the services that gRPC calls."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication
from fastapi import FastAPI
from google.protobuf.descriptor import ServiceDescriptor
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from darkroom.v1 import (
    image_service_connect,
    image_service_pb2,
    model_service_connect,
    model_service_pb2,
)
from darkroom.v1.image_service_pb2_grpc import ImageServiceServicer
from darkroom.v1.model_service_pb2_grpc import ModelServiceServicer
from darkroom_server.access.gate import Gate
from darkroom_server.gateway.bodies import MAX_BODY_BYTES
from darkroom_server.gateway.connect_calls import ConnectInterceptor, DoorInterceptor
from darkroom_server.gateway.connect_codecs import BinaryCodec, JsonCodec
from darkroom_server.gateway.connect_gzip import LateGzip
from darkroom_server.gateway.error_responses import Problem
from darkroom_server.gateway.grpc_web_text import TextCalls
from darkroom_server.telemetry.metrics import Metrics

_Context = RequestContext[Any, Any]

_IMAGES = image_service_pb2.DESCRIPTOR.services_by_name["ImageService"]
_MODELS = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"]


@dataclass(frozen=True, slots=True)
class Servicers:
    """The services of the gRPC edge. All they are asked of a call's context is its time."""

    images: ImageServiceServicer
    models: ModelServiceServicer


@dataclass(frozen=True, slots=True)
class _GrpcContext:
    """What a servicer may ask."""

    ctx: _Context

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None without one."""
        remaining_ms = self.ctx.timeout_ms
        return None if remaining_ms is None else remaining_ms / 1000


def _one(method: Callable[..., Any]) -> Callable[[Any, _Context], Coroutine[Any, Any, Any]]:
    async def call(request: Any, ctx: _Context) -> Any:
        return await method(request, _GrpcContext(ctx))

    return call


def _several(method: Callable[..., Any]) -> Callable[[Any, _Context], AsyncGenerator[Any, None]]:
    def call(request: Any, ctx: _Context) -> AsyncGenerator[Any, None]:
        responses: AsyncGenerator[Any, None] = method(request, _GrpcContext(ctx))
        return responses

    return call


def _as_connect_calls(servicer: object, service: ServiceDescriptor) -> Any:
    """A servicer whose methods have the names and arguments that the library calls them by."""
    calls = SimpleNamespace()
    for method in service.methods:
        adapt = _several if method.server_streaming else _one
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower()
        setattr(calls, name, adapt(getattr(servicer, method.name)))
    return calls


def add_connect(app: FastAPI, servicers: Servicers, metrics: Metrics, gate: Gate) -> None:
    """Adds `/darkroom.v1.ImageService/…` and `/darkroom.v1.ModelService/…`."""
    options: dict[str, Any] = {
        "interceptors": [DoorInterceptor(metrics, gate), ConnectInterceptor(metrics)],
        "codecs": [BinaryCodec(), JsonCodec()],
        "compressions": [LateGzip()],
        "read_max_bytes": MAX_BODY_BYTES,
    }
    images = _as_connect_calls(servicers.images, _IMAGES)
    models = _as_connect_calls(servicers.models, _MODELS)
    services: tuple[ConnectASGIApplication[Any], ...] = (
        image_service_connect.ImageServiceASGIApplication(images, **options),
        model_service_connect.ModelServiceASGIApplication(models, **options),
    )
    for service in services:
        app.mount(service.path, _Guarded(TextCalls(service)))


def render(problem: Problem) -> dict[str, Any]:
    """The body of an error that is not the library's, as Connect's clients read it."""
    return {"code": problem.code.lower(), "message": problem.message}


class _Guarded:
    """Keeps from the library what it would answer with an error of its own, or at a cost."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one call."""
        content_type = Headers(scope=scope).get("content-type", "")
        if content_type.startswith("application/grpc") and "web" not in content_type:
            text = "gRPC needs HTTP/2: it is served at a port of its own"
            await PlainTextResponse(text, status_code=415)(scope, receive, send)
            return
        # Images are packed already; to pack them again would only hold up the loop.
        # Header values that are no ASCII would not be decoded.
        headers = [
            (name, value)
            for name, value in scope["headers"]
            if not name.endswith(b"accept-encoding") and value.isascii()
        ]
        await self._app({**scope, "headers": headers}, receive, send)
