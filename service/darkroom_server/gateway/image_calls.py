"""What every dialect does with the fields of a body: ask the engine, and answer for errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import Request, Response

from darkroom_server.domain.errors import DarkroomError, FieldError
from darkroom_server.domain.jobs import Task
from darkroom_server.domain.models import ModelRef
from darkroom_server.domain.request_events import Accepted, RequestEvent
from darkroom_server.engine.engine import Engine
from darkroom_server.gateway.error_responses import Render, problem_of, refusal
from darkroom_server.gateway.fields import Fields
from darkroom_server.gateway.image_results import Outcome, run, unless_gone
from darkroom_server.gateway.request_fields import Manner, read_request
from darkroom_server.image_decoding.picture_processes import Pictures
from darkroom_server.requests.image_requests import ImageRequest
from darkroom_server.wire.generation import first_event, generation_events, unwritten


@dataclass(frozen=True, slots=True)
class Begun:
    """A request that was admitted, and its further events; closing `events` cancels it."""

    accepted: Accepted
    events: AsyncGenerator[RequestEvent, None]


class ImageMaker:
    """Makes images for the routes of all dialects. Belongs to the engine's event loop."""

    def __init__(self, engine: Engine, pictures: Pictures) -> None:
        self.engine = engine
        self._pictures = pictures

    async def make(self, request: Request, fields: Fields, manner: Manner) -> Outcome:
        """The images asked for; raises DarkroomError, naming fields as the caller wrote them."""
        with _named_as_written(fields):
            return await unless_gone(request, self._made(fields, manner))

    async def begin(self, fields: Fields, manner: Manner, *, is_collected: bool) -> Begun:
        """The request admitted, for answers that are streamed; raises as `make`.

        Images that are collected are kept by the caller of this until `events` has ended.
        """
        with _named_as_written(fields):
            ref, parsed = await self._parse(fields, manner)
            events = generation_events(
                self.engine,
                self._pictures,
                ref,
                parsed,
                deadline_s=None,
                write=unwritten,
                is_collected=is_collected,
            )
            return Begun(await first_event(events), events)

    async def _made(self, fields: Fields, manner: Manner) -> Outcome:
        ref, parsed = await self._parse(fields, manner)
        return await run(self.engine, self._pictures, ref, parsed)

    async def _parse(self, fields: Fields, manner: Manner) -> tuple[ModelRef, ImageRequest]:
        tasks = self.tasks_of(fields.text("model"))
        return await read_request(fields, manner, tasks, self._pictures)

    def tasks_of(self, model: str | None) -> frozenset[Task]:
        """What the model can do, or where none is named, those that serve; raises ModelNotFound."""
        if model:
            return self.engine.get_model(model).model.tasks
        serving = [one for one in self.engine.list_models() if one.default_version is not None]
        return frozenset(task for one in serving for task in one.model.tasks) or frozenset(Task)


@contextmanager
def _named_as_written(fields: Fields) -> Iterator[None]:
    try:
        yield
    except FieldError as error:
        error.field = fields.name(error.field)
        raise


async def answering(request: Request, render: Render, work: Awaitable[Response]) -> Response:
    """The answer, or what became of it in the dialect's shape."""
    # For the handler of bugs, which is far from the route.
    request.state.render = render
    try:
        return await work
    except DarkroomError as error:
        return refusal(problem_of(error), render)
