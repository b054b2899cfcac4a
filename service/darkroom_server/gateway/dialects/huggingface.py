"""Hugging Face's inference: `inputs` and `parameters` in, the bytes of one image out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.jobs import ImageFormat, Task
from darkroom_server.domain.model_status import ModelStatus, VersionState
from darkroom_server.gateway.bodies import off_loop, parse_object, read_body
from darkroom_server.gateway.error_responses import Problem
from darkroom_server.gateway.fields import NAMES, Fields
from darkroom_server.gateway.image_calls import ImageMaker, answering
from darkroom_server.gateway.image_results import outcome_headers
from darkroom_server.gateway.pictures import begins_as_picture
from darkroom_server.gateway.request_fields import Manner
from darkroom_server.gateway.schemas import hugging_face_schema, json_body

_MODEL_PATHS = ("/models/{model:path}", "/hf-inference/models/{model:path}")
#: Whether a request waits for a model that is being loaded; it does unless this is "false".
_WAIT_HEADER = "x-wait-for-model"
#: When to ask again for one.
_LOADING_S = 5
#: What the clients call a mask; the image is in `inputs`.
_MASK_NAME = "parameters.mask_image"
#: What a body has besides the parameters.
_BODY_NAMES = ("inputs", "parameters", "model")
#: A body that begins so is an image; JSON never does.
_MAGICS = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF")


def huggingface_router(maker: ImageMaker) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["huggingface"])
    body = json_body(hugging_face_schema())

    async def infer(request: Request, model: str = "") -> Response:
        async def work() -> Response:
            return await _infer(maker, request, model)

        return await answering(request, render, work())

    @router.post("/", openapi_extra=body)
    @router.post("/v1", openapi_extra=body)
    async def default_model(request: Request) -> Response:
        """Runs the default model of the task."""
        return await infer(request)

    @router.post(_MODEL_PATHS[0], openapi_extra=body)
    @router.post(_MODEL_PATHS[1], openapi_extra=body)
    async def named_model(request: Request, model: str) -> Response:
        """Runs the model of that name, hub id or alias."""
        return await infer(request, model)

    _add_state_routes(router, maker)
    return router


def _add_state_routes(router: APIRouter, maker: ImageMaker) -> None:
    @router.get("/health")
    @router.get("/v1/health")
    async def health() -> Response:
        """200 when every model that should serve does, else 503."""
        return Response(status_code=200 if maker.engine.is_ready() else 503)

    @router.get("/info")
    @router.get("/v1/info")
    async def info() -> Response:
        """The models by name."""
        names = [status.model.name for status in maker.engine.list_models()]
        return JSONResponse({"models": names})

    @router.get(f"{_MODEL_PATHS[0]}/health")
    @router.get(f"{_MODEL_PATHS[1]}/health")
    async def model_health(request: Request, model: str) -> Response:
        """200 when the model serves, 404 when there is none of that name, else 503."""

        async def work() -> Response:
            is_ready = maker.engine.get_model(model).is_ready() and not maker.engine.is_leaving()
            return Response(status_code=200 if is_ready else 503)

        return await answering(request, render, work())

    @router.get(f"{_MODEL_PATHS[0]}/info")
    @router.get(f"{_MODEL_PATHS[1]}/info")
    async def model_info(request: Request, model: str) -> Response:
        """What the model is."""

        async def work() -> Response:
            found = maker.engine.get_model(model)
            tasks = sorted(task.value for task in found.model.tasks)
            shown = {"model_id": found.model.hub_id or found.model.name, "tasks": tasks}
            return JSONResponse({**shown, "ready": found.is_ready()})

        return await answering(request, render, work())


async def _infer(maker: ImageMaker, request: Request, model: str) -> Response:
    body = bytes(await read_body(request.stream()))
    is_said_image = request.headers.get("content-type", "").lower().startswith("image/")
    if is_said_image or body.startswith(_MAGICS):
        return await _image(maker, request, _fields({"image": body, "model": model or None}, {}))
    return await infer_json(maker, request, await off_loop(parse_object, body), model)


async def infer_json(
    maker: ImageMaker, request: Request, body: dict[str, Any], model: str = ""
) -> Response:
    """The answer to a body of `inputs` and `parameters`; raises DarkroomError."""
    return await _image(maker, request, read_inputs(body, model, maker))


async def _image(maker: ImageMaker, request: Request, fields: Fields) -> Response:
    # Without the header a request waits: some clients would repeat it at once, without end.
    if request.headers.get(_WAIT_HEADER) == "false":
        found = _meant(maker, fields)
        shown = None if found is None else found.shown_version
        if found is not None and shown is not None and shown.state is VersionState.LOADING:
            return _loading(fields.text("model") or found.model.name)
    image_format = format_accepted(",".join(request.headers.getlist("accept")))
    outcome = await maker.make(request, fields, Manner(format=image_format))
    # Only the first can be given back: the answer is the image itself.
    image = outcome.images[0]
    headers = outcome_headers(outcome, fields.ignored)
    return Response(image.content, media_type=image.format.value, headers=headers)


def _meant(maker: ImageMaker, fields: Fields) -> ModelStatus | None:
    """The model named, or the one that the task would get; raises ModelNotFound."""
    name = fields.text("model")
    if name:
        return maker.engine.get_model(name)
    task = Task.TEXT_TO_IMAGE
    if fields.raw("image.content") is not None:
        has_mask = fields.raw("mask.content") is not None
        task = Task.FILL if has_mask else Task.IMAGE_TO_IMAGE
    return next((one for one in maker.engine.list_models() if task in one.default_tasks), None)


def _loading(name: str) -> Response:
    text = f"Model {name} is currently loading"
    return JSONResponse(
        {"error": text, "estimated_time": float(_LOADING_S)},
        status_code=503,
        headers={"retry-after": str(_LOADING_S)},
    )


def _fields(values: dict[str, Any], shown: Mapping[str, str]) -> Fields:
    """The fields; a mask that is missed is called as the clients would send it."""
    has_mask = any(values.get(name) is not None for name in NAMES["mask.content"])
    return Fields(values, shown=shown if has_mask else {"mask.content": _MASK_NAME, **shown})


def read_inputs(body: dict[str, Any], model: str, maker: ImageMaker) -> Fields:
    """The fields of `inputs` and `parameters`; the path's model goes before the body's.

    `inputs` is an image where it begins as one, where the prompt or a mask is among the parameters,
    or where the model has no use for a text alone; otherwise it is the prompt. Raises
    InvalidParameter.
    """
    parameters = body.get("parameters")
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, dict):
        raise InvalidParameter("parameters", "is no object")
    inputs = body.get("inputs")
    if not isinstance(inputs, str) or not inputs.strip():
        raise InvalidParameter("inputs", "give the text to draw, or the image to change")
    fields = _of_inputs(inputs, parameters, model or body.get("model"), maker)
    fields.ignored += [name for name in body if name not in _BODY_NAMES]
    return fields


def _of_inputs(inputs: str, parameters: dict[str, Any], model: Any, maker: ImageMaker) -> Fields:
    values = {**parameters, "model": model}
    about_image = begins_as_picture(inputs.lstrip()) or any(
        values.get(name) is not None for name in ("prompt", "mask", "mask_image")
    )
    named = values["model"] if isinstance(values["model"], str) else None
    if about_image or Task.TEXT_TO_IMAGE not in maker.tasks_of(named):
        return _fields({**values, "image": inputs}, {"image.content": "inputs"})
    return _fields({**values, "prompt": inputs}, {"prompt": "inputs"})


def format_accepted(accept: str) -> ImageFormat:
    """The format that an Accept header asks for: of the heaviest that are made, the first."""
    best, best_weight = ImageFormat.PNG, 0.0
    for part in accept.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        found = next((one for one in ImageFormat if one.value == media_type), None)
        weight = _weight(parameters)
        if found is not None and weight > best_weight:
            best, best_weight = found, weight
    return best


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def render(problem: Problem) -> dict[str, Any]:
    """The error's body: the clients show a text, and only a text."""
    return {"error": problem.message}
