"""fal's queue: a request is submitted, polled or streamed, fetched or cancelled.

A request is for the queue by its address: below `/queue`, at a host that begins with `queue.`, or
with `_subdomain=queue`, as Hugging Face's router writes it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from darkroom_server.domain.errors import InvalidParameter, UnknownRoute
from darkroom_server.gateway.dialects import fal_answers
from darkroom_server.gateway.dialects.fal_answers import Asked, render
from darkroom_server.gateway.error_responses import problem_of, refusal, words_of
from darkroom_server.gateway.event_stream import EventStream, event_text
from darkroom_server.gateway.image_calls import ImageMaker, answering
from darkroom_server.gateway.image_results import accepted_headers, inference_s
from darkroom_server.gateway.predictions import Prediction, Predictions

_REQUEST = "/fal-ai/{app:path}/requests/{request_id}"
#: Clients read the request's id here too.
_ID_HEADER = "x-fal-request-id"
#: Interval of a stream's events when nothing changes.
_REPEAT_S = 15.0


def is_for_queue(request: Request) -> bool:
    """Whether the call's host or query says so."""
    by_host = (request.url.hostname or "").startswith("queue.")
    return by_host or request.query_params.get("_subdomain") == "queue"


async def submitted(
    maker: ImageMaker, predictions: Predictions, request: Request, asked: Asked
) -> Response:
    """The answer to a request that has been handed in; raises DarkroomError."""
    begun = await maker.begin(asked.fields, asked.manner, is_collected=True)
    given = {"app": asked.app, "prompt": asked.prompt, "sync_mode": asked.sync_mode}
    made = predictions.start(asked.model, given, begun)
    headers = accepted_headers(begun.accepted, asked.fields.ignored)
    return _answer(_standing(predictions, made, request), 200, made, headers)


def add_queue_routes(router: APIRouter, predictions: Predictions) -> None:
    """What can be asked of a request that was handed in, by its id; the model in it is not read."""
    _add_standing_routes(router, predictions)

    @router.put(f"{_REQUEST}/cancel")
    @router.put(f"/queue{_REQUEST}/cancel")
    async def cancel(request: Request, app: str, request_id: str) -> Response:
        """Stops a request."""
        del app

        async def work() -> Response:
            made = _found(predictions, request_id)
            if made.has_ended:
                return _answer({"status": "ALREADY_COMPLETED"}, 400, made)
            await predictions.cancel(made)
            return _answer({"status": "CANCELLATION_REQUESTED"}, 202, made)

        return await answering(request, render, work())

    @router.get(_REQUEST)
    @router.get(f"/queue{_REQUEST}")
    async def fetch(request: Request, app: str, request_id: str) -> Response:
        """The images of a request, or why there are none."""
        del app

        async def work() -> Response:
            return _result(predictions, _found(predictions, request_id), request)

        return await answering(request, render, work())


def _add_standing_routes(router: APIRouter, predictions: Predictions) -> None:
    @router.get(f"{_REQUEST}/status/stream")
    @router.get(f"/queue{_REQUEST}/status/stream")
    async def follow(request: Request, app: str, request_id: str) -> Response:
        """How a request stands, as server-sent events, until it has ended."""
        del app

        async def work() -> Response:
            made = _found(predictions, request_id)
            return EventStream(_standings(predictions, made, request), {_ID_HEADER: made.id})

        return await answering(request, render, work())

    @router.get(f"{_REQUEST}/status")
    @router.get(f"/queue{_REQUEST}/status")
    async def look(request: Request, app: str, request_id: str) -> Response:
        """How a request stands."""
        del app

        async def work() -> Response:
            made = _found(predictions, request_id)
            status_code = 200 if made.has_ended else 202
            return _answer(_standing(predictions, made, request), status_code, made)

        return await answering(request, render, work())


def _found(predictions: Predictions, request_id: str) -> Prediction:
    made = predictions.find(request_id)
    if made is None or "app" not in made.given:
        raise UnknownRoute("It is not known here, or no longer kept.")
    return made


def _result(predictions: Predictions, made: Prediction, request: Request) -> Response:
    if not made.has_ended:
        raise InvalidParameter("request_id", "the request is still in progress")
    if made.error is not None:
        return refusal(problem_of(made.error), render)
    kept = predictions.kept
    images = {name: image for name in made.image_names if (image := kept.find(name)) is not None}
    if made.given["sync_mode"]:
        urls = [fal_answers.data_url(image.format, image.content) for image in images.values()]
    else:
        urls = [kept.address(request, name) for name in images]
    found = [*images.values()]
    return _answer(fal_answers.shown(urls, found, made.timings, made.given["prompt"]), 200, made)


async def _standings(
    predictions: Predictions, made: Prediction, request: Request
) -> AsyncGenerator[str, None]:
    async for one in predictions.standings(made, _REPEAT_S):
        yield event_text("status", _standing(predictions, one, request))


def _standing(predictions: Predictions, made: Prediction, request: Request) -> dict[str, Any]:
    app = quote(made.given["app"])
    own = f"{predictions.kept.base_url(request)}fal-ai/{app}/requests/{made.id}"
    standing: dict[str, Any] = {
        "request_id": made.id,
        "response_url": own,
        "status_url": f"{own}/status",
        "cancel_url": f"{own}/cancel",
        # There are no log lines; clients need the member.
        "logs": [],
    }
    if made.has_ended:
        standing |= {
            "status": "COMPLETED",
            "metrics": {"inference_time": inference_s(made.timings)},
        }
    elif made.ahead_count is None:
        standing["status"] = "IN_PROGRESS"
    else:
        standing |= {"status": "IN_QUEUE", "queue_position": made.ahead_count}
    if made.error is not None:
        code = problem_of(made.error).openai["code"]
        standing |= {"error": words_of(made.error), "error_type": code}
    return standing


def _answer(
    body: dict[str, Any], status_code: int, made: Prediction, headers: dict[str, str] | None = None
) -> Response:
    shown = {**(headers or {}), _ID_HEADER: made.id}
    return JSONResponse(body, status_code=status_code, headers=shown)
