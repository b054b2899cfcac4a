"""The gRPC requests as JSON, their events as server-sent events: `/darkroom/v1/…`.

Bodies are the protobuf JSON mapping of `GenerateRequest` and `FillRequest`, and so are the events,
but that an image comes whole, with its bytes, and not in chunks.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any, TypeAlias, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from google.protobuf import json_format
from google.protobuf.message import Message

from darkroom.v1.image_service_pb2 import FillRequest, GenerateRequest, GenerationEvent
from darkroom.v1.model_service_pb2 import ListModelsResponse
from darkroom_server.domain.errors import DarkroomError, InvalidParameter
from darkroom_server.domain.jobs import JobImage
from darkroom_server.domain.models import ModelRef
from darkroom_server.engine.engine import Engine
from darkroom_server.gateway.bodies import off_loop, read_body, require_few_values
from darkroom_server.gateway.error_responses import Problem, problem_of, refusal
from darkroom_server.gateway.event_stream import EventStream, event_text
from darkroom_server.gateway.image_results import accepted_headers, unless_gone
from darkroom_server.image_decoding.picture_processes import Pictures
from darkroom_server.requests.image_requests import ImageRequest
from darkroom_server.wire.generation import Told, generation_events
from darkroom_server.wire.messages import parse_fill, parse_generate
from darkroom_server.wire.model_messages import model_message

_Event: TypeAlias = "tuple[str, dict[str, Any]]"
_Message = TypeVar("_Message", bound=Message)
_Parsed: TypeAlias = "tuple[ModelRef, ImageRequest]"


def events_router(engine: Engine, pictures: Pictures) -> APIRouter:
    """The routes; belongs to the engine's event loop."""
    router = APIRouter(prefix="/darkroom/v1", tags=["events"])

    @router.get("/models")
    async def models() -> Response:
        """Every model with its parameters, limits and defaults, as in ListModels."""
        found = sorted(engine.list_models(), key=lambda status: status.model.name)
        message = ListModelsResponse(models=[model_message(status) for status in found])
        return JSONResponse(json_format.MessageToDict(message))

    @router.post("/generate")
    async def generate(request: Request) -> Response:
        """Text to image, and with an image, image to image; the answer is an event stream."""

        async def parse() -> _Parsed:
            return parse_generate(await _read(request, GenerateRequest()))

        return await _answer(request, engine, pictures, parse)

    @router.post("/fill")
    async def fill(request: Request) -> Response:
        """Repaints the masked part of an image; the answer is an event stream."""

        async def parse() -> _Parsed:
            return parse_fill(await _read(request, FillRequest()))

        return await _answer(request, engine, pictures, parse)

    return router


async def _answer(
    request: Request,
    engine: Engine,
    pictures: Pictures,
    parse: Callable[[], Awaitable[_Parsed]],
) -> Response:
    """A stream once the request is admitted; until then an error is an HTTP status."""
    try:
        ref, parsed = await parse()
        told = generation_events(engine, pictures, ref, parsed, deadline_s=None)
        happened, messages = await unless_gone(request, _first(told))
    except DarkroomError as error:
        return refused(error)
    first = list(messages)
    return EventStream(_texts((happened, first), told), headers=accepted_headers(first[0].accepted))


async def _first(told: AsyncGenerator[Told, None]) -> Told:
    return await anext(told)


async def _texts(first: Told, told: AsyncGenerator[Told, None]) -> AsyncGenerator[str, None]:
    """The events as text; a failure after admission is the last of them."""
    async with aclosing(told):
        for name, data in _events(first):
            yield event_text(name, data)
        try:
            async for one in told:
                for name, data in _events(one):
                    yield event_text(name, data)
        except DarkroomError as error:
            yield event_text("error", render(problem_of(error)))


def _events(told: Told) -> Iterator[_Event]:
    """Name and data of each event."""
    happened, messages = told
    for message in messages:
        name = message.WhichOneof("event") or ""
        data = _json(message)
        if isinstance(happened, JobImage):
            data["image"]["content"] = base64.b64encode(happened.content).decode()
        yield "done" if name == "completed" else name, data
        if isinstance(happened, JobImage):
            break  # its chunks are left out: it came whole


def _json(event: GenerationEvent) -> dict[str, Any]:
    """The event, with numbers that are 0 spelt out: a form shows them."""
    data: dict[str, Any] = json_format.MessageToDict(
        event, always_print_fields_with_no_presence=True
    )
    return data


async def _read(request: Request, message: _Message) -> _Message:
    """The body as a message; raises InvalidParameter. Large ones are parsed off the loop."""
    body = await read_body(request.stream())
    return await off_loop(_parse, body, message)


def _parse(body: bytearray, message: _Message) -> _Message:
    require_few_values(body)
    try:
        return json_format.Parse(bytes(body), message)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameter("request", f"the body is no such message: {error}") from error


def refused(error: DarkroomError) -> Response:
    """The answer to a request that was not admitted."""
    return refusal(problem_of(error), render)


def render(problem: Problem) -> dict[str, Any]:
    """The error's body, and an event's data."""
    told: dict[str, Any] = {
        "code": problem.code,
        "reason": problem.reason,
        "message": problem.text,
        "retryable": problem.retryable,
    }
    if problem.param is not None:
        told["field"] = problem.param
    return {"error": told}
