"""The HTTP edge: image services' dialects, event streams, RPCs, the playground, probes, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request, Response, Security
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPBearer

from darkroom_server.access.gate import Gate
from darkroom_server.background import keep_going
from darkroom_server.engine.engine import Engine
from darkroom_server.gateway.bugs import Bugs, add_bug_handler
from darkroom_server.gateway.callers import STANDING_HEADERS, Callers
from darkroom_server.gateway.connect import Servicers, add_connect
from darkroom_server.gateway.dialects.events import events_router
from darkroom_server.gateway.dialects.huggingface import huggingface_router
from darkroom_server.gateway.dialects.hyperbolic import hyperbolic_router
from darkroom_server.gateway.dialects.nebula import nebula_router
from darkroom_server.gateway.dialects.openai import openai_router
from darkroom_server.gateway.dialects.replicate import replicate_router
from darkroom_server.gateway.key_route import key_router
from darkroom_server.gateway.making import ImageMaker
from darkroom_server.gateway.playground_routes import playground_router
from darkroom_server.gateway.request_ids import RequestIds
from darkroom_server.telemetry.metrics import Metrics
from darkroom_server.wire.images import ImageLimits
from darkroom_server.wire.readiness import is_ready
from darkroom_server.wire.tls import TlsFiles

#: How long a connection that stands still may hold up the end: what ran has ended before.
_STOP_S = 5

#: What a page of another origin may read besides the body.
_EXPOSED_HEADERS = (
    *("x-request-id", "x-darkroom-seed", "x-darkroom-model", "x-darkroom-warning"),
    *("server-timing", "retry-after", "x-should-retry", *STANDING_HEADERS),
    *("grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-retry-pushback-ms"),
)


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How the edge listens. Port 0 takes any free one.

    `grpc_port` is where gRPC listens, which the playground tells. `cors_origins` are the origins
    whose pages may call it; `*` is every one.
    """

    host: str
    port: int
    grpc_port: int
    cors_origins: tuple[str, ...] = ()
    tls: TlsFiles | None = None


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the application."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


class HttpServer:
    """A server that is bound to its port. Belongs to the event loop that starts it."""

    def __init__(self, app: FastAPI, listener: socket.socket, tls: TlsFiles | None) -> None:
        self._listener = listener
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_STOP_S,
            ssl_certfile=None if tls is None else tls.certificate,
            ssl_keyfile=None if tls is None else tls.key,
        )
        self._server = _Uvicorn(config)
        self._task: asyncio.Task[None] | None = None
        #: The port in use.
        self.port: int = listener.getsockname()[1]

    def start(self) -> None:
        """Begins to answer."""
        self._task = keep_going("HTTP server", lambda: self._server.serve(sockets=[self._listener]))

    async def stop(self) -> None:
        """Ends after the calls that run, or those that stand still after a while."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


def build_http_server(
    engine: Engine, options: HttpOptions, metrics: Metrics, gate: Gate, servicers: Servicers
) -> HttpServer:
    """A server bound but not started; raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.create_server((options.host, options.port), family=family)
    app = build_app(engine, metrics, gate, servicers, options)
    return HttpServer(app, listener, options.tls)


def build_app(
    engine: Engine, metrics: Metrics, gate: Gate, servicers: Servicers, options: HttpOptions
) -> FastAPI:
    """The routes."""
    app = FastAPI(title="Darkroom", docs_url=None, redoc_url=None)

    @app.get("/v2/health/live")
    async def live() -> Response:
        """200 as long as the process answers."""
        return Response()

    @app.get("/v2/health/ready")
    async def ready() -> Response:
        """200 when every model that should serve does, else 503."""
        return Response(status_code=200 if engine.is_ready() else 503)

    # The lower one is looked at first.
    @app.get("/v2/models/{name:path}/ready")
    @app.get("/v2/models/{name:path}/versions/{version}/ready")
    async def model_ready(name: str, version: str = "") -> Response:
        """200 when the model or version serves, 404 when there is none so named, else 503."""
        found = is_ready(engine, name, version)
        return Response(status_code=404 if found is None else 200 if found else 503)

    @app.get("/metrics")
    async def scrape(request: Request) -> Response:
        """Every metric, as Prometheus reads them."""
        content, media_type = metrics.render(request.headers.get("accept", ""))
        return Response(content, headers={"content-type": media_type})

    # For the OpenAPI document alone: `Callers` has seen to the key before.
    scheme = [Security(HTTPBearer(auto_error=False))] if gate.asks_for_keys else []
    app.include_router(image_router(engine, ImageLimits()), dependencies=scheme)
    app.include_router(key_router(), dependencies=scheme)
    app.include_router(playground_router(options.grpc_port, needs_key=gate.asks_for_keys))
    add_connect(app, servicers, metrics, gate)
    app.add_middleware(Bugs)
    app.add_middleware(Callers, gate=gate)
    if options.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=options.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=_EXPOSED_HEADERS,
        )
    app.add_middleware(RequestIds, metrics=metrics)
    add_bug_handler(app)
    return app


def image_router(engine: Engine, image_limits: ImageLimits) -> APIRouter:
    """Every route that makes images or tells of models."""
    maker = ImageMaker(engine, image_limits)
    # Until the repository has been read, a model that is in it would be unknown.
    router = APIRouter(dependencies=[Depends(engine.scanned)])
    router.include_router(events_router(engine, image_limits))
    router.include_router(nebula_router(maker))
    router.include_router(openai_router(maker))
    router.include_router(hyperbolic_router(maker))
    router.include_router(replicate_router(maker))
    router.include_router(huggingface_router(maker))
    return router
