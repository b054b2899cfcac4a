"""The standard health service: what is true now, for the server and for each model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from darkroom.v1 import image_service_pb2, model_service_pb2
from darkroom_server.domain.errors import ModelNotFound
from darkroom_server.domain.model_status import ModelStatus, all_ready
from darkroom_server.engine.engine import Engine
from darkroom_server.rpc.health_list import HealthListRequest, HealthListResponse
from darkroom_server.wire.readiness import is_resource_ready

_Request = Any  # health_pb2.HealthCheckRequest: the package has no types
_Response = Any  # health_pb2.HealthCheckResponse
_Context = aio.ServicerContext[Any, Any]

HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
IMAGE_SERVICE = image_service_pb2.DESCRIPTOR.services_by_name["ImageService"].full_name
MODEL_SERVICE = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name


def serving_by_name(models: tuple[ModelStatus, ...], leaving: bool) -> dict[str, bool]:
    """Whether each name that can be asked for serves.

    The empty name is the server: it serves when every model that should serve does, and there is
    one.
    """
    images = all_ready(models) and not leaving
    names = {"": images, IMAGE_SERVICE: images, MODEL_SERVICE: not leaving}
    return names | {
        f"models/{status.model.name}": status.is_ready() and not leaving for status in models
    }


class HealthService:
    """Check, Watch and List over the engine's own state. Bound to the event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed = asyncio.Event()
        self._closed = False
        engine.add_listener(self._wake)

    def close(self) -> None:
        """Ends every Watch, which would otherwise keep a stopping server waiting."""
        self._closed = True
        self._wake()

    async def Check(self, request: _Request, _context: _Context) -> _Response:
        """One name, now; raises ModelNotFound for a name that is neither service nor model."""
        serving = self._is_serving(request.service)
        if serving is None:
            raise ModelNotFound(request.service, "no service or model has this name")
        return _message(serving)

    async def Watch(self, request: _Request, _context: _Context) -> AsyncIterator[_Response]:
        """One name, now and whenever it changes; an unknown name may become known."""
        last: _Response = None
        while not self._closed:
            changed = self._changed
            status = _message(self._is_serving(request.service))
            if status != last:
                last = status
                yield status
            else:
                await changed.wait()

    async def List(self, _request: Any, _context: _Context) -> Any:
        """Every name, now."""
        response = HealthListResponse()
        for name, serving in self._serving().items():
            response.statuses[name].status = _message(serving).status
        return response

    def _serving(self) -> dict[str, bool]:
        return serving_by_name(self._engine.list_models(), self._engine.is_leaving())

    def _is_serving(self, name: str) -> bool | None:
        """By a name that List gives, or any other that a request may use for a model."""
        known = self._serving()
        return known[name] if name in known else is_resource_ready(self._engine, name)

    def _wake(self) -> None:
        # Watchers of the past wait for this event; those to come, for the next one.
        self._changed.set()
        self._changed = asyncio.Event()


def add_health(service: HealthService, server: aio.Server) -> None:
    """Adds the service to the server, List included, which the generated code does not know."""
    health_pb2_grpc.add_HealthServicer_to_server(service, server)
    listing = grpc.unary_unary_rpc_method_handler(
        service.List,
        request_deserializer=HealthListRequest.FromString,
        response_serializer=HealthListResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(HEALTH_SERVICE, {"List": listing})
    server.add_generic_rpc_handlers((handler,))


def _message(serving: bool | None) -> _Response:
    status = {None: "SERVICE_UNKNOWN", True: "SERVING", False: "NOT_SERVING"}[serving]
    return health_pb2.HealthCheckResponse(status=status)
