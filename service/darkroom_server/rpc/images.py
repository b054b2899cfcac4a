"""`darkroom.v1.ImageService`: parse, ask the engine, render."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from grpc import aio

from darkroom.v1 import image_service_pb2_grpc
from darkroom.v1.image_service_pb2 import (
    FillRequest,
    FillResponse,
    GenerateRequest,
    GenerateResponse,
    GenerationEvent,
)
from darkroom_server.domain.models import ModelRef
from darkroom_server.engine.engine import Engine
from darkroom_server.rpc.interceptors import note_model
from darkroom_server.wire.events import EventWriter, RunningModel
from darkroom_server.wire.images import ImageLimits
from darkroom_server.wire.messages import parse_fill, parse_generate
from darkroom_server.wire.prepare import prepare
from darkroom_server.wire.requests import ImageRequest

_Context = aio.ServicerContext[Any, Any]


class ImageService(image_service_pb2_grpc.ImageServiceServicer):
    """Serves Generate and Fill. Errors are raised; the interceptor makes statuses of them."""

    def __init__(self, engine: Engine, image_limits: ImageLimits) -> None:
        self._engine = engine
        self._image_limits = image_limits

    async def Generate(
        self, request: GenerateRequest, context: _Context
    ) -> AsyncIterator[GenerateResponse]:
        """Text to image."""
        async with aclosing(self._events(*parse_generate(request), context)) as events:
            async for event in events:
                yield GenerateResponse(event=event)

    async def Fill(self, request: FillRequest, context: _Context) -> AsyncIterator[FillResponse]:
        """Repaints the masked part of an image."""
        async with aclosing(self._events(*parse_fill(request), context)) as events:
            async for event in events:
                yield FillResponse(event=event)

    async def _events(
        self, ref: ModelRef, request: ImageRequest, context: _Context
    ) -> AsyncGenerator[GenerationEvent, None]:
        """Nothing is yielded before admission is decided: a client may retry only until then."""
        writer = EventWriter(time.time_ns)
        async with self._engine.open(ref, request.task) as session:
            note_model(session.model.name)
            if not request.validate_only:
                session.require_room()
            resolved = await prepare(
                request,
                session.model,
                image_limits=self._image_limits,
                choose_seed=secrets.randbelow,
            )
            model = RunningModel(
                name=session.model.name,
                version=session.version,
                digest=session.digest,
                dtype=session.dtype.value,
            )
            if request.validate_only:
                yield writer.accepted(session.job_id, resolved, model)
                yield writer.validated()
                return
            await session.submit(resolved.spec, deadline_s=_deadline_s(context))
            yield writer.accepted(session.job_id, resolved, model)
            async for happened in session.events():
                for event in writer.write(happened, dropped_count=session.dropped_count):
                    yield event


def _deadline_s(context: _Context) -> float | None:
    """The caller's deadline on the monotonic clock."""
    remaining_s: float | None = context.time_remaining()
    return None if remaining_s is None else time.monotonic() + remaining_s
