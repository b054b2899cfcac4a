"""The gRPC requests as JSON, their events as server-sent events: `/darkroom/v1/…`.

Bodies are the protobuf JSON mapping of `GenerateRequest` and `FillRequest`, and so are the events,
but that an image comes whole, with its bytes, and not in chunks.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import Any, TypeAlias

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.models import ModelRef
from darkroom_server.domain.request_events import Accepted, RequestEvent
from darkroom_server.engine.engine import Engine
from darkroom_server.gateway.bodies import off_loop, read_body, require_few_values
from darkroom_server.gateway.error_responses import Problem, problem_of, refusal
from darkroom_server.gateway.event_stream import EventStream, event_text
from darkroom_server.gateway.image_results import accepted_headers, unless_gone
from darkroom_server.image_decoding.picture_processes import Pictures
from darkroom_server.requests.image_requests import ImageRequest
from darkroom_server.wire.generation import generation_events
from darkroom_server.wire.json_messages import (
    JsonEventWriter,
    models_json,
    parse_fill_json,
    parse_generate_json,
)

_Parsed: TypeAlias = "tuple[ModelRef, ImageRequest]"
#: An event, and its text on the wire.
_Written: TypeAlias = "tuple[RequestEvent, str]"


def events_router(engine: Engine, pictures: Pictures) -> APIRouter:
    """The routes; belongs to the engine's event loop."""
    router = APIRouter(prefix="/darkroom/v1", tags=["events"])

    @router.get("/models")
    async def models() -> Response:
        """Every model with its parameters, limits and defaults, as in ListModels."""
        found = sorted(engine.list_models(), key=lambda status: status.model.name)
        return JSONResponse(models_json(found))

    @router.post("/generate")
    async def generate(request: Request) -> Response:
        """Text to image, and with an image, image to image; the answer is an event stream."""
        return await _answer(request, engine, pictures, parse_generate_json)

    @router.post("/fill")
    async def fill(request: Request) -> Response:
        """Repaints the masked part of an image; the answer is an event stream."""
        return await _answer(request, engine, pictures, parse_fill_json)

    return router


async def _answer(
    request: Request, engine: Engine, pictures: Pictures, parse: Callable[[bytes], _Parsed]
) -> Response:
    """A stream once the request is admitted; until then an error is an HTTP status."""
    writer = JsonEventWriter(time.time_ns)

    def write(event: RequestEvent, dropped_count: int) -> Iterator[_Written]:
        for name, data in writer.write(event, dropped_count):
            yield event, event_text(name, data)

    try:
        body = await read_body(request.stream())
        ref, parsed = await off_loop(_parse, body, parse)
        events = generation_events(engine, pictures, ref, parsed, deadline_s=None, write=write)
        first, text = await unless_gone(request, _first(events))
    except DarkroomError as error:
        return refused(error)
    headers = accepted_headers(first) if isinstance(first, Accepted) else {}
    return EventStream(_texts(text, events), headers)


def _parse(body: bytearray, parse: Callable[[bytes], _Parsed]) -> _Parsed:
    require_few_values(body)
    return parse(bytes(body))


async def _first(events: AsyncGenerator[_Written, None]) -> _Written:
    return await anext(events)


async def _texts(first: str, events: AsyncGenerator[_Written, None]) -> AsyncGenerator[str, None]:
    """The events as text; a failure after admission is the last of them."""
    async with aclosing(events):
        yield first
        try:
            async for _, text in events:
                yield text
        except DarkroomError as error:
            yield event_text("error", render(problem_of(error)))


def refused(error: DarkroomError) -> Response:
    """The answer to a request that was not admitted."""
    return refusal(problem_of(error), render)


def render(problem: Problem) -> dict[str, Any]:
    """The error's body, and an event's data."""
    details: dict[str, Any] = {
        "code": problem.code,
        "reason": problem.reason,
        "message": problem.text,
        "retryable": problem.retryable,
    }
    if problem.param is not None:
        details["field"] = problem.param
    return {"error": details}
