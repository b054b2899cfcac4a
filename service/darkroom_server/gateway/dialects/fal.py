"""fal's images: `/fal-ai/MODEL` at once, as a stream, or by the queue; addresses of images out."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from darkroom_server.domain.errors import DarkroomError, ModelNotFound
from darkroom_server.domain.jobs import ImageFormat, JobCompleted, JobImage, JobPreview, JobTimings
from darkroom_server.gateway.bodies import read_object
from darkroom_server.gateway.dialects import fal_answers
from darkroom_server.gateway.dialects.fal_queue import add_queue_routes, is_for_queue, submitted
from darkroom_server.gateway.dialects.openai_stream import with_partial_images
from darkroom_server.gateway.error_responses import problem_of
from darkroom_server.gateway.event_stream import EventStream, event_text
from darkroom_server.gateway.fields import NAMES, Fields, flag
from darkroom_server.gateway.image_calls import Begun, ImageMaker, answering
from darkroom_server.gateway.image_results import accepted_headers, outcome_headers
from darkroom_server.gateway.kept_images import KeptImages
from darkroom_server.gateway.knobs import FAL
from darkroom_server.gateway.predictions import Predictions
from darkroom_server.gateway.request_fields import Manner
from darkroom_server.gateway.schemas import json_body

render = fal_answers.render

_PREFIX = "fal-ai/"
#: How the addresses of models that change images end; without one, such a call is none.
_CHANGES = ("image-to-image", "inpainting", "inpaint", "fill", "edit")
_PARTIAL_IMAGE_COUNT = 3


def fal_router(maker: ImageMaker, predictions: Predictions) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["fal"])
    kept = predictions.kept

    # Before the others, whose model would take in the address's end.
    @router.post("/fal-ai/{app:path}/stream", openapi_extra=json_body())
    async def stream(request: Request, app: str) -> Response:
        """The images as server-sent events: smaller ones while they are made, then the answer."""

        async def work() -> Response:
            asked = await _asked(maker, request, app)
            manner = with_partial_images(maker, asked.fields, asked.manner, _PARTIAL_IMAGE_COUNT)
            begun = await maker.begin(asked.fields, manner, is_collected=True)
            headers = accepted_headers(begun.accepted, asked.fields.ignored)
            return EventStream(_events(begun, kept, request, asked), headers)

        return await answering(request, render, work())

    @router.post("/fal-ai/{app:path}", openapi_extra=json_body())
    async def run(request: Request, app: str) -> Response:
        """The images when they are made; or a place in the queue, where the address asks for it."""

        async def work() -> Response:
            asked = await _asked(maker, request, app)
            if is_for_queue(request):
                return await submitted(maker, predictions, request, asked)
            outcome = await maker.make(request, asked.fields, asked.manner)
            found = fal_answers.result(kept, request, asked, outcome.images, outcome.timings)
            headers = outcome_headers(outcome, asked.fields.ignored)
            return JSONResponse(found, headers=headers)

        return await answering(request, render, work())

    @router.post("/queue/fal-ai/{app:path}", openapi_extra=json_body())
    async def submit(request: Request, app: str) -> Response:
        """A place in the queue."""

        async def work() -> Response:
            asked = await _asked(maker, request, app)
            return await submitted(maker, predictions, request, asked)

        return await answering(request, render, work())

    add_queue_routes(router, predictions)
    return router


async def _asked(maker: ImageMaker, request: Request, app: str) -> fal_answers.Asked:
    """What a call asks for; raises DarkroomError."""
    body = await read_object(request.stream())
    model, needs_image = _model(maker, app)
    of_models = NAMES["model"]
    given = {name: value for name, value in body.items() if name not in of_models}
    fields = Fields({**given, "model": model}, knobs=FAL, own=("sync_mode",))
    # The address names the model, and nobody is called back.
    fields.ignored += [name for name in body if name in of_models]
    fields.ignored += [name for name in request.query_params if name == "fal_webhook"]
    return fal_answers.Asked(
        app=app,
        model=model,
        prompt=fields.text("prompt") or "",
        sync_mode=flag(body.get("sync_mode"), "sync_mode"),
        fields=fields,
        manner=Manner(format=ImageFormat.JPEG, needs_image=needs_image),
    )


def _model(maker: ImageMaker, app: str) -> tuple[str, bool]:
    """The model that an address names, with or without fal's prefix, and whether it needs an image.

    Raises ModelNotFound.
    """
    bare = app.removeprefix(_PREFIX)
    stem, _, last = bare.rpartition("/")
    needs_image = last in _CHANGES
    names = [f"{_PREFIX}{bare}", bare]
    if needs_image and stem:
        names += [f"{_PREFIX}{stem}", stem]
    for name in names:
        try:
            maker.engine.get_model(name)
        except ModelNotFound:
            continue
        return name, needs_image
    maker.engine.get_model(names[0])
    return names[0], needs_image


async def _events(
    begun: Begun, kept: KeptImages, request: Request, asked: fal_answers.Asked
) -> AsyncGenerator[str, None]:
    """The events as text; a failure is the last of them."""
    images: list[JobImage] = []
    timings = JobTimings()
    async with aclosing(begun.events) as events:
        try:
            async for happened in events:
                if isinstance(happened, JobPreview):
                    yield event_text("partial", fal_answers.partial(happened))
                elif isinstance(happened, JobImage):
                    images.append(happened)
                elif isinstance(happened, JobCompleted):
                    timings = happened.timings
            found = fal_answers.result(kept, request, asked, images, timings)
            yield event_text("result", found)
        except DarkroomError as error:
            yield event_text("error", render(problem_of(error)))
