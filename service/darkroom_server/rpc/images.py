"""`darkroom.v1.ImageService`: parse, ask the engine, render."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from grpc import aio

from darkroom.v1 import image_service_pb2_grpc
from darkroom.v1.image_service_pb2 import (
    FillRequest,
    FillResponse,
    GenerateRequest,
    GenerateResponse,
)
from darkroom_server.domain.models import ModelRef
from darkroom_server.engine.engine import Engine
from darkroom_server.image_decoding.picture_processes import Pictures
from darkroom_server.requests.image_requests import ImageRequest
from darkroom_server.wire.generation import generation_events
from darkroom_server.wire.messages import parse_fill, parse_generate

_Context = aio.ServicerContext[Any, Any]
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class ImageService(image_service_pb2_grpc.ImageServiceServicer):
    """Serves Generate and Fill. Errors are raised; the interceptor makes statuses of them."""

    def __init__(self, engine: Engine, pictures: Pictures) -> None:
        self._engine = engine
        self._pictures = pictures

    def Generate(
        self, request: GenerateRequest, context: _Context
    ) -> AsyncIterator[GenerateResponse]:
        """Text to image."""
        return self._answers(parse_generate, request, GenerateResponse, context)

    def Fill(self, request: FillRequest, context: _Context) -> AsyncIterator[FillResponse]:
        """Repaints the masked part of an image."""
        return self._answers(parse_fill, request, FillResponse, context)

    async def _answers(
        self,
        parse: Callable[[_Request], tuple[ModelRef, ImageRequest]],
        request: _Request,
        response: Callable[..., _Response],
        context: _Context,
    ) -> AsyncGenerator[_Response, None]:
        told = generation_events(
            self._engine,
            self._pictures,
            *parse(request),
            deadline_s=_deadline_s(context),
        )
        async with aclosing(told):
            async for _, messages in told:
                for message in messages:
                    yield response(event=message)


def _deadline_s(context: _Context) -> float | None:
    """The caller's deadline on the monotonic clock."""
    remaining_s: float | None = context.time_remaining()
    return None if remaining_s is None else time.monotonic() + remaining_s
