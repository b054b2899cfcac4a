"""`darkroom.v1.ModelService`: what the server can run and how it is doing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from grpc import aio

from darkroom.v1 import model_service_pb2_grpc
from darkroom.v1.model_service_pb2 import (
    DeleteVersionLabelRequest,
    DeleteVersionLabelResponse,
    GetModelRequest,
    GetModelResponse,
    ListModelsRequest,
    ListModelsResponse,
    LoadModelRequest,
    LoadModelResponse,
    SetVersionLabelRequest,
    SetVersionLabelResponse,
    UnloadModelRequest,
    UnloadModelResponse,
)
from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.engine.engine import Engine
from darkroom_server.requests.limits import check_name
from darkroom_server.wire.model_messages import load_message, model_message
from darkroom_server.wire.model_requests import (
    check_model_name,
    parse_drain_s,
    parse_traffic_percent,
)

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000

_Context = aio.ServicerContext[Any, Any]


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """Serves every method. Errors are raised; the interceptor makes statuses of them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def ListModels(
        self, request: ListModelsRequest, _context: _Context
    ) -> ListModelsResponse:
        """Models by name. A page token is the last name of the page before.

        Raises InvalidParameter.
        """
        if request.page_size < 0:
            raise InvalidParameter("page_size", f"{request.page_size} is below 0")
        await self._engine.scanned()
        size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        models = sorted(self._engine.list_models(), key=lambda status: status.model.name)
        left = [status for status in models if status.model.name > request.page_token]
        page = left[:size]
        return ListModelsResponse(
            models=[model_message(status) for status in page],
            next_page_token=page[-1].model.name if len(left) > size else "",
        )

    async def GetModel(self, request: GetModelRequest, _context: _Context) -> GetModelResponse:
        """One model by name, hub id or alias."""
        check_model_name(request.name)
        await self._engine.scanned()
        return GetModelResponse(model=model_message(self._engine.get_model(request.name)))

    async def LoadModel(
        self, request: LoadModelRequest, _context: _Context
    ) -> AsyncIterator[LoadModelResponse]:
        """Loads a model or one version of it, and reports until it is READY."""
        check_model_name(request.name)
        check_name("version", request.version)
        loading = self._engine.control.load(
            request.name,
            request.version,
            evict_idle=request.evict_idle,
            reload=request.force_reload,
        )
        async with aclosing(loading) as reports:
            async for report in reports:
                yield load_message(report)

    async def UnloadModel(
        self, request: UnloadModelRequest, _context: _Context
    ) -> UnloadModelResponse:
        """Lets a model or one version of it leave, and answers when it has."""
        check_model_name(request.name)
        check_name("version", request.version)
        status = await self._engine.control.unload(
            request.name, request.version, drain_s=parse_drain_s(request)
        )
        return UnloadModelResponse(model=model_message(status))

    async def SetVersionLabel(
        self, request: SetVersionLabelRequest, _context: _Context
    ) -> SetVersionLabelResponse:
        """Points a label at a version that serves."""
        check_model_name(request.name)
        check_name("version", request.version, required=True)
        status = await self._engine.control.set_label(
            request.name,
            request.label,
            request.version,
            traffic_percent=parse_traffic_percent(request),
        )
        return SetVersionLabelResponse(model=model_message(status))

    async def DeleteVersionLabel(
        self, request: DeleteVersionLabelRequest, _context: _Context
    ) -> DeleteVersionLabelResponse:
        """Takes a label away."""
        check_model_name(request.name)
        status = await self._engine.control.delete_label(request.name, request.label)
        return DeleteVersionLabelResponse(model=model_message(status))
