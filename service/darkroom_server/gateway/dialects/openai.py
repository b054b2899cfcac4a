"""OpenAI's images, and what others send to the same address: `/v1/images/…`, `/v1/models`.

One answer serves OpenAI's, Together's, Nebius' and Nscale's clients; a body with `model_name` is
Hyperbolic's, one with `inputs` Hugging Face's.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.jobs import MaskPolarity
from darkroom_server.domain.model_status import ModelStatus
from darkroom_server.gateway.bodies import read_object
from darkroom_server.gateway.dialects import huggingface, hyperbolic
from darkroom_server.gateway.dialects.openai_stream import (
    USAGE,
    look,
    partial_image_count,
    stream_images,
)
from darkroom_server.gateway.error_responses import Problem
from darkroom_server.gateway.fields import Fields, flag
from darkroom_server.gateway.forms import is_form, read_form
from darkroom_server.gateway.image_calls import ImageMaker, answering
from darkroom_server.gateway.image_results import Outcome, outcome_headers
from darkroom_server.gateway.kept_images import KeptImages
from darkroom_server.gateway.knobs import OPENAI
from darkroom_server.gateway.request_fields import Manner
from darkroom_server.gateway.schemas import form_body, generations_schema, json_body

_Route: TypeAlias = "Callable[[Request], Awaitable[Response]]"

#: Clients of several providers put the provider's name first.
PROVIDERS = ("", "/together", "/nebius", "/nscale", "/hyperbolic")
_EDIT = Manner(mask_polarity=MaskPolarity.TRANSPARENT_REPAINTS, needs_image=True)
#: What of a body is read here.
_OWN = ("response_format", "stream", "partial_images")
#: How an image may come back; Together calls the second one base64.
_FORMS = {"url": "url", "b64_json": "b64_json", "base64": "b64_json"}
#: Models of OpenAI's that answer with addresses where nothing is said.
_BY_ADDRESS = "dall-e"


def openai_router(maker: ImageMaker, kept: KeptImages) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["openai"])

    async def images(request: Request, body: dict[str, Any], manner: Manner, kind: str) -> Response:
        partial_count = partial_image_count(body)
        fields = Fields(body, knobs=OPENAI, own=_OWN)
        form = _form(body, fields)
        if flag(body.get("stream"), "stream"):
            if form == "url" and body.get("response_format"):
                raise InvalidParameter("response_format", "streams carry images as b64_json")
            return await stream_images(maker, fields, manner, kind, partial_count)
        if partial_count:
            fields.ignored.insert(0, "partial_images")
        outcome = await maker.make(request, fields, manner)
        addresses = None
        if form == "url":
            addresses = [kept.address(request, name) for name in kept.keep(outcome.images)]
        headers = outcome_headers(outcome, fields.ignored)
        return JSONResponse(_answer(fields, outcome, addresses), headers=headers)

    async def generations(request: Request) -> Response:
        """Text to image; with an image, image to image or fill. Images come as base64 or by url."""

        async def work() -> Response:
            body = await read_object(request.stream())
            if "inputs" in body:
                made = huggingface.infer_json(maker, request, body)
                return await answering(request, huggingface.render, made)
            if "model_name" in body:
                return await hyperbolic.infer(maker, request, body)
            return await images(request, body, Manner(), "image_generation")

        return await answering(request, render, work())

    async def edits(request: Request) -> Response:
        """Repaints what is transparent in the mask, or in the image; without either, all of it."""

        async def work() -> Response:
            body = await (read_form(request) if is_form(request) else read_object(request.stream()))
            return await images(request, body, _EDIT, "image_edit")

        return await answering(request, render, work())

    _add_image_routes(router, generations, edits)
    _add_model_routes(router, maker)
    return router


def _add_image_routes(router: APIRouter, generations: _Route, edits: _Route) -> None:
    """Both, as every provider's clients call them."""
    generated, edited = json_body(generations_schema()), form_body()
    for provider in PROVIDERS:
        base = f"{provider}/v1/images"
        router.add_api_route(
            f"{base}/generations", generations, methods=["POST"], openapi_extra=generated
        )
        router.add_api_route(f"{base}/edits", edits, methods=["POST"], openapi_extra=edited)


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


def _form(body: dict[str, Any], fields: Fields) -> str:
    """How the images are to come back: by the model's name where the body does not say."""
    asked = body.get("response_format")
    if asked is None:
        is_theirs = (fields.text("model") or "").lower().startswith(_BY_ADDRESS)
        return "url" if is_theirs else "b64_json"
    form = _FORMS.get(asked.lower()) if isinstance(asked, str) else None
    if form is None:
        raise InvalidParameter("response_format", f"is none of: {', '.join(_FORMS)}")
    return form


def _answer(fields: Fields, outcome: Outcome, addresses: list[str] | None) -> dict[str, Any]:
    """The body; never an address and the bytes together, which clients take for an error."""
    accepted = outcome.accepted
    found: list[dict[str, Any]] = []
    for at, image in enumerate(outcome.images):
        one: dict[str, Any] = {"index": image.image_index}
        if addresses is None:
            content = base64.b64encode(image.content).decode()
            one |= {"type": "b64_json", "b64_json": content}
        else:
            one |= {"type": "url", "url": addresses[at]}
        if accepted.rewritten_prompt:
            one["revised_prompt"] = accepted.rewritten_prompt
        found.append(one)
    return {
        "id": uuid.uuid4().hex,
        "object": "list",
        "created": int(time.time()),
        "model": fields.text("model") or accepted.model.name,
        "data": found,
        **look(outcome.images[0]),
        "usage": USAGE,
    }


def _model(status: ModelStatus) -> dict[str, Any]:
    name = status.model.hub_id or status.model.name
    return {"id": name, "object": "model", "created": 0, "owned_by": "darkroom"}


def render(problem: Problem) -> dict[str, Any]:
    """The error's body."""
    return {"error": problem.openai}
