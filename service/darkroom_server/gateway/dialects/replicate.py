"""Replicate's predictions: `input` in, addresses of images out, which are kept for an hour."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from darkroom_server.domain.errors import InvalidParameter, UnknownRoute
from darkroom_server.gateway.bodies import read_object
from darkroom_server.gateway.error_responses import Problem, words_of
from darkroom_server.gateway.fields import NAMES, SIZE, Fields
from darkroom_server.gateway.image_calls import ImageMaker, answering
from darkroom_server.gateway.image_results import accepted_headers
from darkroom_server.gateway.predictions import Prediction, Predictions, PredictionStatus
from darkroom_server.gateway.request_fields import Manner
from darkroom_server.gateway.schemas import json_body, prediction_schema
from darkroom_server.parameters.bounds import MAX_PROMPT_BYTES
from darkroom_server.parameters.parameter import Kind
from darkroom_server.parameters.table import PARAMETERS
from darkroom_server.wire.adapter_values import with_one_list
from darkroom_server.wire.status import MAX_DETAIL_BYTES, cut

_PREFER_WAIT = re.compile(r"\bwait(?:=(\d{1,4}))?\b")
#: How long a call that prefers to wait does so, and at most.
_WAIT_S = 60.0
#: What a body has besides the input's fields; `stream` asks for texts, which there are none of.
_BODY_NAMES = ("input", "version", "stream")
#: What comes back of an input, and how long a text of it may be.
_ECHO_BYTES: Mapping[str, int] = {
    **dict.fromkeys(NAMES[SIZE], MAX_DETAIL_BYTES),
    **{
        name: MAX_PROMPT_BYTES if parameter.kind is Kind.TEXT else MAX_DETAIL_BYTES
        for parameter in PARAMETERS.values()
        if parameter.kind not in (Kind.PICTURE, Kind.PICTURES)
        for name in parameter.http
    },
}


def replicate_router(maker: ImageMaker, predictions: Predictions) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["replicate"])
    body = json_body(prediction_schema())

    async def predict(request: Request, model: str) -> Response:
        async def work() -> Response:
            return await _predict(maker, predictions, request, model)

        return await answering(request, render, work())

    @router.post("/v1/models/{model:path}/predictions", openapi_extra=body, status_code=201)
    @router.post(
        "/replicate/v1/models/{model:path}/predictions", openapi_extra=body, status_code=201
    )
    async def of_model(request: Request, model: str) -> Response:
        """Begins a prediction by a model; with `Prefer: wait`, answers when it has ended."""
        return await predict(request, model)

    @router.post("/v1/predictions", openapi_extra=body, status_code=201)
    @router.post("/replicate/v1/predictions", openapi_extra=body, status_code=201)
    async def of_version(request: Request) -> Response:
        """The same by the model that `version` names."""
        return await predict(request, "")

    _add_kept_routes(router, predictions)
    return router


def _add_kept_routes(router: APIRouter, predictions: Predictions) -> None:
    @router.get("/v1/predictions/{prediction_id}")
    @router.get("/replicate/v1/predictions/{prediction_id}")
    async def look(request: Request, prediction_id: str) -> Response:
        """How a prediction stands."""

        async def work() -> Response:
            return JSONResponse(_shown(predictions, _found(predictions, prediction_id), request))

        return await answering(request, render, work())

    @router.post("/v1/predictions/{prediction_id}/cancel")
    @router.post("/replicate/v1/predictions/{prediction_id}/cancel")
    async def cancel(request: Request, prediction_id: str) -> Response:
        """Stops a prediction that runs."""

        async def work() -> Response:
            found = _found(predictions, prediction_id)
            await predictions.cancel(found)
            return JSONResponse(_shown(predictions, found, request))

        return await answering(request, render, work())


def _found(predictions: Predictions, prediction_id: str) -> Prediction:
    found = predictions.find(prediction_id)
    if found is None:
        raise UnknownRoute("It is not known here, or no longer kept.")
    return found


async def _predict(
    maker: ImageMaker, predictions: Predictions, request: Request, model: str
) -> Response:
    body = await read_object(request.stream())
    given = body.get("input")
    if not isinstance(given, dict):
        raise InvalidParameter("input", "is no object")
    if not model:
        version = body.get("version")
        if not isinstance(version, str) or not version:
            raise InvalidParameter("version", "name a model")
        model = version.partition(":")[0]
    fields = Fields({**with_one_list(given), "model": model})
    fields.ignored += [name for name in body if name not in _BODY_NAMES]
    begun = await maker.begin(fields, Manner(), is_collected=True)
    made = predictions.start(model, _echoed(given), begun)
    wait = _PREFER_WAIT.search(request.headers.get("prefer", ""))
    if wait:
        await predictions.wait(made, min(float(wait[1] or _WAIT_S), _WAIT_S))
    headers = accepted_headers(begun.accepted, fields.ignored)
    shown = _shown(predictions, made, request)
    return JSONResponse(shown, status_code=201, headers=headers)


def _echoed(given: dict[str, Any]) -> dict[str, Any]:
    """What is kept of an input and sent back: no images, and nothing that is long."""
    return {
        name: cut(value, _ECHO_BYTES[name]) if isinstance(value, str) else value
        for name, value in given.items()
        if name in _ECHO_BYTES and isinstance(value, str | int | float)
    }


def _shown(predictions: Predictions, made: Prediction, request: Request) -> dict[str, Any]:
    kept = predictions.kept
    own = f"{kept.base_url(request)}v1/predictions/{made.id}"
    error = made.error if made.status is PredictionStatus.FAILED else None
    taken_s = None if made.completed_s is None else made.completed_s - made.created_s
    return {
        "id": made.id,
        "model": made.model,
        "version": str(made.begun.accepted.model.version),
        "input": made.given,
        "status": made.status.value,
        "output": [kept.address(request, name) for name in made.image_names] or None,
        "logs": "",
        "error": None if error is None else words_of(error),
        "metrics": {} if taken_s is None else {"predict_time": taken_s},
        "created_at": _time(made.created_s),
        "started_at": _time(made.created_s),
        "completed_at": None if made.completed_s is None else _time(made.completed_s),
        "urls": {"get": own, "cancel": f"{own}/cancel"},
    }


def _time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat()


def render(problem: Problem) -> dict[str, Any]:
    """The error's body."""
    title = problem.reason.replace("_", " ").capitalize()
    return {"title": title, "detail": problem.message, "status": problem.http_status}
