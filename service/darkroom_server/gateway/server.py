"""The HTTP edge: image services' dialects, event streams, RPCs, the playground, probes, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request, Response, Security
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer

from darkroom_server.access.gate import Gate
from darkroom_server.background import keep_going
from darkroom_server.engine.engine import Engine
from darkroom_server.engine.undelivered import Undelivered
from darkroom_server.gateway.access_log import RequestIds
from darkroom_server.gateway.authentication import STANDING_HEADERS, Authentication
from darkroom_server.gateway.body_holds import BodyHolds, Holds
from darkroom_server.gateway.connect import Servicers, add_connect
from darkroom_server.gateway.connections import HEAD_TIMEOUT_S, Connections, HttpConnection
from darkroom_server.gateway.dialects import replicate
from darkroom_server.gateway.dialects.events import events_router
from darkroom_server.gateway.dialects.fal import fal_router
from darkroom_server.gateway.dialects.huggingface import huggingface_router
from darkroom_server.gateway.dialects.hyperbolic import hyperbolic_router
from darkroom_server.gateway.dialects.nebula import nebula_router
from darkroom_server.gateway.dialects.openai import openai_router
from darkroom_server.gateway.dialects.replicate import replicate_router
from darkroom_server.gateway.dialects.triton import triton_router
from darkroom_server.gateway.head_calls import HeadCalls
from darkroom_server.gateway.image_calls import ImageMaker
from darkroom_server.gateway.kept_images import KeptImages, files_router
from darkroom_server.gateway.key_route import key_router
from darkroom_server.gateway.packed_bodies import PackedBodies
from darkroom_server.gateway.pages import PageRules, Pages, is_of_this_machine
from darkroom_server.gateway.playground_routes import playground_router
from darkroom_server.gateway.predictions import Predictions
from darkroom_server.gateway.trailing_slashes import TrailingSlashes
from darkroom_server.gateway.unhandled_errors import UnhandledErrors, add_bug_handler
from darkroom_server.gateway.unknown_routes import add_route_errors
from darkroom_server.gateway.unread_answers import UnreadAnswers
from darkroom_server.image_decoding.picture_processes import PictureProcesses, Pictures
from darkroom_server.telemetry.metrics import Metrics
from darkroom_server.wire.readiness import is_ready
from darkroom_server.wire.tls import Certificates

#: Grace period for idle connections at shutdown; running requests have already finished.
_STOP_S = 5
_BACKLOG = 128
_WATCH_INTERVAL_S = 1.0

#: What a page of another origin may read besides the body.
_EXPOSED_HEADERS = (
    *("x-request-id", "x-darkroom-seed", "x-darkroom-model", "x-darkroom-warning"),
    *("server-timing", "retry-after", "x-should-retry", *STANDING_HEADERS),
    *("grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-retry-pushback-ms"),
)


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How the edge listens. Port 0 takes any free one.

    `grpc_port` is where gRPC listens, which the playground shows. `cors_origins` are the origins
    whose pages may call it; `*` is every one. `allowed_hosts` are names that it may be called by
    besides those of this machine, `max_connection_count` is how many connections may be open.
    `public_url` is where callers reach it, None: by the address that each call has.
    """

    host: str
    port: int
    grpc_port: int
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    max_connection_count: int = 512
    tls: Certificates | None = None
    public_url: str | None = None
    pictures: Pictures = field(default_factory=PictureProcesses)


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the application, and does not wait long for TLS."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As the library's with sockets, which has no setting for the time of a handshake."""
        await self.lifespan.startup()
        connection: Any = self.config.http_protocol_class
        made = functools.partial(
            connection,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        loop, tls = asyncio.get_running_loop(), self.config.ssl
        self.servers = [
            await loop.create_server(
                made,
                sock=one,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else HEAD_TIMEOUT_S,
                backlog=self.config.backlog,
            )
            for one in sockets or ()
        ]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


class HttpServer:
    """A server that is bound to its port. Belongs to the event loop that starts it."""

    def __init__(self, app: FastAPI, listener: socket.socket, options: HttpOptions) -> None:
        self._listener = listener
        self._connections = Connections(options.max_connection_count)
        tls = options.tls
        connection: Any = functools.partial(HttpConnection, registry=self._connections)
        config = uvicorn.Config(
            app,
            http=connection,
            ws="none",
            log_config=None,
            access_log=False,
            # What waits to be accepted is no connection of ours yet.
            backlog=_BACKLOG,
            timeout_graceful_shutdown=_STOP_S,
            ssl_context_factory=None if tls is None else lambda *_: tls.server_context(),
        )
        self._server = _Uvicorn(config)
        self._task: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        #: The port in use.
        self.port: int = listener.getsockname()[1]

    def start(self) -> None:
        """Begins to answer."""
        self._task = keep_going("HTTP server", lambda: self._server.serve(sockets=[self._listener]))
        self._watch = keep_going("watch of connections", self._close_late)

    async def stop(self) -> None:
        """Ends after the calls that run; idle connections get a grace period."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        if self._watch is not None:
            self._watch.cancel()
        self._connections.close()

    async def _close_late(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_INTERVAL_S)
            self._connections.check(time.monotonic())


def build_http_server(
    engine: Engine, options: HttpOptions, metrics: Metrics, gate: Gate, servicers: Servicers
) -> HttpServer:
    """A server bound but not started; raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.create_server((options.host, options.port), family=family)
    app = build_app(engine, metrics, gate, servicers, options)
    return HttpServer(app, listener, options)


def page_rules(options: HttpOptions) -> PageRules:
    """Which pages may call. Where other machines may, nobody here knows by which names."""
    hosts = frozenset(name.lower() for name in options.allowed_hosts)
    is_local = is_of_this_machine(options.host)
    return PageRules(
        hosts=hosts | {options.host} if is_local or hosts else None, origins=options.cors_origins
    )


def build_app(
    engine: Engine, metrics: Metrics, gate: Gate, servicers: Servicers, options: HttpOptions
) -> FastAPI:
    """The routes."""
    app = FastAPI(title="Darkroom", docs_url=None, redoc_url=None, redirect_slashes=False)

    @app.get("/v2/health/live")
    async def live() -> Response:
        """200 as long as the process answers."""
        return JSONResponse({"live": True})

    @app.get("/v2/health/ready")
    async def ready() -> Response:
        """200 when every model that should serve does, else 503."""
        is_whole = engine.is_ready()
        return JSONResponse({"ready": is_whole}, status_code=200 if is_whole else 503)

    # The lower one is tried first.
    @app.get("/v2/models/{name:path}/ready")
    @app.get("/v2/models/{name:path}/versions/{version}/ready")
    async def model_ready(name: str, version: str = "") -> Response:
        """200 when the model or version serves, 404 when there is none so named, else 503."""
        found = is_ready(engine, name, version)
        status = 404 if found is None else 200 if found else 503
        return JSONResponse({"name": name, "ready": bool(found)}, status_code=status)

    @app.get("/metrics")
    async def scrape(request: Request) -> Response:
        """Every metric, as Prometheus reads them."""
        content, media_type = metrics.render(request.headers.get("accept", ""))
        return Response(content, headers={"content-type": media_type})

    # For the OpenAPI document alone: `Authentication` has checked the key before.
    scheme = [Security(HTTPBearer(auto_error=False))] if gate.asks_for_keys else []
    images = image_router(engine, options.pictures, options.public_url)
    app.include_router(images, dependencies=scheme)
    app.include_router(key_router(), dependencies=scheme)
    app.include_router(playground_router(options.grpc_port, needs_key=gate.asks_for_keys))
    add_connect(app, servicers, metrics, gate)
    _add_layers(app, metrics, gate, options, engine.undelivered)
    add_route_errors(app)
    add_bug_handler(app)
    return app


def _add_layers(
    app: FastAPI, metrics: Metrics, gate: Gate, options: HttpOptions, undelivered: Undelivered
) -> None:
    """What every call goes through, the innermost first."""
    app.add_middleware(UnhandledErrors)
    app.add_middleware(BodyHolds, holds=Holds())
    app.add_middleware(PackedBodies)
    app.add_middleware(Authentication, gate=gate)
    if not gate.asks_for_keys:
        # A page has no key, and so does nothing where one is asked for.
        app.add_middleware(Pages, rules=page_rules(options))
    app.add_middleware(HeadCalls)
    app.add_middleware(TrailingSlashes)
    if options.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=options.cors_origins,
            allow_methods=["GET", "POST", "PUT"],
            allow_headers=["*"],
            expose_headers=_EXPOSED_HEADERS,
        )
    app.add_middleware(UnreadAnswers, undelivered=undelivered)
    app.add_middleware(RequestIds, metrics=metrics)


def image_router(engine: Engine, pictures: Pictures, public_url: str | None = None) -> APIRouter:
    """Every route that makes images or describes models."""
    maker = ImageMaker(engine, pictures)
    # Half as much again as may wait to be read.
    kept = KeptImages(public_url, max_bytes=engine.undelivered.max_bytes // 2)
    predictions = Predictions(kept)
    # Until the repository has been read, a model that is in it would be unknown.
    router = APIRouter(dependencies=[Depends(engine.scanned)])
    router.include_router(events_router(engine, pictures))
    router.include_router(nebula_router(maker))
    router.include_router(openai_router(maker, kept))
    router.include_router(hyperbolic_router(maker))
    router.include_router(replicate_router(maker, predictions))
    router.include_router(fal_router(maker, predictions))
    router.include_router(files_router(kept, replicate.render))
    router.include_router(triton_router(engine, pictures))
    router.include_router(huggingface_router(maker))
    return router
