"""`darkroom.v1.ModelService`: what the server can run and how it is doing."""

from __future__ import annotations

from typing import Any

from grpc import aio

from darkroom.v1 import model_service_pb2_grpc
from darkroom.v1.model_service_pb2 import (
    GetModelRequest,
    GetModelResponse,
    ListModelsRequest,
    ListModelsResponse,
)
from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.engine.engine import Engine
from darkroom_server.wire.limits import check_name
from darkroom_server.wire.model_messages import model_message

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000

_Context = aio.ServicerContext[Any, Any]


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """Serves ListModels and GetModel; the generated base answers the rest UNIMPLEMENTED."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def ListModels(
        self, request: ListModelsRequest, _context: _Context
    ) -> ListModelsResponse:
        """Models by name. A page token is the name that the page before ended with."""
        if request.page_size < 0:
            raise InvalidParameter("page_size", f"{request.page_size} is below 0")
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
        if not request.name:
            raise InvalidParameter("name", "give the name of a model")
        check_name("name", request.name)
        return GetModelResponse(model=model_message(self._engine.get_model(request.name)))
