"""`darkroom.v1.ImageService`: parse, ask the engine, render."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterator
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
from darkroom_server.domain.request_events import RequestEvent
from darkroom_server.engine.engine import Engine
from darkroom_server.image_decoding.picture_processes import Pictures
from darkroom_server.requests.image_requests import ImageRequest
from darkroom_server.wire.events import EventWriter
from darkroom_server.wire.generation import generation_events
from darkroom_server.wire.messages import parse_fill, parse_generate

_Context = aio.ServicerContext[Any, Any]
_Response = TypeVar("_Response")


class ImageService(image_service_pb2_grpc.ImageServiceServicer):
    """Serves Generate and Fill. Errors are raised; the interceptor makes statuses of them."""

    def __init__(self, engine: Engine, pictures: Pictures) -> None:
        self._engine = engine
        self._pictures = pictures

    def Generate(
        self, request: GenerateRequest, context: _Context
    ) -> AsyncGenerator[GenerateResponse, None]:
        """Text to image."""
        return self._answers(parse_generate(request), GenerateResponse, context)

    def Fill(self, request: FillRequest, context: _Context) -> AsyncGenerator[FillResponse, None]:
        """Repaints the masked part of an image."""
        return self._answers(parse_fill(request), FillResponse, context)

    def _answers(
        self,
        parsed: tuple[ModelRef, ImageRequest],
        response: Callable[..., _Response],
        context: _Context,
    ) -> AsyncGenerator[_Response, None]:
        writer = EventWriter(time.time_ns)

        def write(event: RequestEvent, dropped_count: int) -> Iterator[_Response]:
            for message in writer.write(event, dropped_count):
                yield response(event=message)

        ref, request = parsed
        return generation_events(
            self._engine,
            self._pictures,
            ref,
            request,
            deadline_s=_deadline_s(context),
            write=write,
        )


def _deadline_s(context: _Context) -> float | None:
    """The caller's deadline on the monotonic clock."""
    remaining_s: float | None = context.time_remaining()
    return None if remaining_s is None else time.monotonic() + remaining_s
