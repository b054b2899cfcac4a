"""OpenAI's images, and what others send to the same address: `/v1/images/…`, `/v1/models`.

One answer serves OpenAI's, Together's, Nebius' and Nscale's clients; a body with `model_name` is
Hyperbolic's, one with `inputs` Hugging Face's.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from darkroom.v1.image_service_pb2 import GenerationEvent
from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.jobs import JobImage
from darkroom_server.domain.models import ModelStatus
from darkroom_server.gateway.asking import Manner
from darkroom_server.gateway.bodies import read_object
from darkroom_server.gateway.dialects import huggingface, hyperbolic
from darkroom_server.gateway.dialects.openai_stream import USAGE, look, stream_images
from darkroom_server.gateway.fields import Fields, flag
from darkroom_server.gateway.forms import read_form
from darkroom_server.gateway.making import ImageMaker, answering
from darkroom_server.gateway.outcome import outcome_headers
from darkroom_server.gateway.problems import Problem
from darkroom_server.gateway.schemas import form_body, json_body
from darkroom_server.wire.requests import MaskPolarity

#: Clients of several providers put the provider's name first.
PROVIDERS = ("", "/together", "/nebius", "/nscale", "/hyperbolic")
_EDIT = Manner(mask_polarity=MaskPolarity.TRANSPARENT_REPAINTS)


def openai_router(maker: ImageMaker) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["openai"])

    async def generations(request: Request) -> Response:
        """Text to image; with an image, image to image or fill. Images come as base64 in JSON."""

        async def work() -> Response:
            body = await read_object(request.stream())
            if "inputs" in body:
                made = huggingface.infer_json(maker, request, body)
                return await answering(request, huggingface.render, made)
            if "model_name" in body:
                return await hyperbolic.infer(maker, request, body)
            return await _images(maker, request, body, Manner(), "image_generation")

        return await answering(request, render, work())

    for provider in PROVIDERS:
        path = f"{provider}/v1/images/generations"
        router.add_api_route(path, generations, methods=["POST"], openapi_extra=json_body())

    @router.post("/v1/images/edits", openapi_extra=form_body())
    async def edits(request: Request) -> Response:
        """Repaints what is transparent in the mask, or in the image; without either, all of it."""

        async def work() -> Response:
            return await _images(maker, request, await _edit_body(request), _EDIT, "image_edit")

        return await answering(request, render, work())

    _add_model_routes(router, maker)
    return router


def _add_model_routes(router: APIRouter, maker: ImageMaker) -> None:
    @router.get("/v1/models")
    async def models() -> Response:
        """Every model."""
        found = [_model(status) for status in maker.engine.list_models()]
        return JSONResponse({"object": "list", "data": found})

    @router.get("/v1/models/{model:path}")
    async def model(request: Request, model: str) -> Response:
        """One model by name, hub id or alias."""

        async def work() -> Response:
            return JSONResponse(_model(maker.engine.get_model(model)) | {"id": model})

        return await answering(request, render, work())


async def _edit_body(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await read_form(request)
    return await read_object(request.stream())


async def _images(
    maker: ImageMaker, request: Request, body: dict[str, Any], manner: Manner, kind: str
) -> Response:
    if body.get("response_format") == "url":
        raise InvalidParameter("response_format", "images are kept nowhere; ask for b64_json")
    fields = Fields(body)
    if flag(body.get("stream"), "stream"):
        return await stream_images(maker, fields, manner, kind, body.get("partial_images"))
    outcome = await maker.make(request, fields, manner)
    headers = outcome_headers(outcome, fields.ignored)
    return JSONResponse(_answer(fields, outcome.accepted, outcome.images), headers=headers)


def _answer(
    fields: Fields, accepted: GenerationEvent.Accepted, images: Sequence[JobImage]
) -> dict[str, Any]:
    return {
        "id": uuid.uuid4().hex,
        "object": "list",
        "created": int(time.time()),
        "model": fields.text("model") or accepted.parameters.model.removeprefix("models/"),
        "data": [
            {
                "index": image.image_index,
                "type": "b64_json",
                "b64_json": base64.b64encode(image.content).decode(),
            }
            for image in images
        ],
        **look(images[0]),
        "usage": USAGE,
    }


def _model(status: ModelStatus) -> dict[str, Any]:
    name = status.model.hub_id or status.model.name
    return {"id": name, "object": "model", "created": 0, "owned_by": "darkroom"}


def render(problem: Problem) -> dict[str, Any]:
    """The error's body."""
    return {"error": problem.openai}
