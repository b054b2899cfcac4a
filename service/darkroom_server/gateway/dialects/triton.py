"""The inference protocol over HTTP: `/v2/…`, as Triton's and KServe's clients call it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from darkroom_server.domain.errors import (
    DarkroomError,
    InvalidParameter,
    ModelNotFound,
    NotOffered,
)
from darkroom_server.engine.engine import Engine
from darkroom_server.gateway.bodies import off_loop, parse_object, read_body
from darkroom_server.gateway.dialects.triton_bodies import (
    JSON_LENGTH_HEADER,
    InferBody,
    generate_call,
    generated,
)
from darkroom_server.gateway.error_responses import Problem, problem_of
from darkroom_server.gateway.event_stream import EventStream
from darkroom_server.gateway.image_calls import answering
from darkroom_server.gateway.image_results import unless_gone
from darkroom_server.image_decoding.picture_processes import Pictures
from darkroom_server.wire.kserve import control
from darkroom_server.wire.kserve.inference import InferAnswer, Inference
from darkroom_server.wire.kserve.json_messages import (
    model_config_json,
    model_metadata_json,
    repository_index_json,
    server_metadata_json,
    statistics_json,
)
from darkroom_server.wire.kserve.not_offered import SHARED_MEMORY

#: What is asked of a model by POST; by GET these would be taken for a part of its name.
_POSTED = ("infer", "generate", "generate_stream")
_MODEL, _VERSION = "/models/{name:path}", "/models/{name:path}/versions/{version}"


def render(problem: Problem) -> dict[str, Any]:
    """The error's body."""
    return {"error": problem.message}


def triton_router(engine: Engine, pictures: Pictures) -> APIRouter:
    """The routes but those of health.

    Where two could take a path, the one added first does; of decorators it is the lower.
    """
    # Its clients have a description of their own, and not in OpenAPI's terms.
    router = APIRouter(prefix="/v2", include_in_schema=False)
    _add_settings(router, engine)
    _add_repository(router, engine)
    _add_inference(router, Inference(engine, pictures))
    _add_shared_memory(router)
    _add_metadata(router, engine)
    return router


def _add_inference(router: APIRouter, inference: Inference) -> None:
    @router.post(_MODEL + "/infer")
    @router.post(_VERSION + "/infer")
    async def infer(request: Request, name: str, version: str = "") -> Response:
        """All images in one answer."""

        async def work() -> Response:
            length = request.headers.get(JSON_LENGTH_HEADER)
            content = await read_body(request.stream())
            body = await off_loop(InferBody, content, length, name, version)
            return body.answer(await unless_gone(request, inference.once(body.call)))

        return await answering(request, render, work())

    @router.post(_MODEL + "/generate")
    @router.post(_VERSION + "/generate")
    async def generate(request: Request, name: str, version: str = "") -> Response:
        """All images in one answer, of plain JSON."""

        async def work() -> Response:
            content = await read_body(request.stream())
            call = await off_loop(generate_call, content, name, version)
            answer = await unless_gone(request, inference.once(call))
            return JSONResponse(generated(answer))

        return await answering(request, render, work())

    @router.post(_MODEL + "/generate_stream")
    @router.post(_VERSION + "/generate_stream")
    async def generate_stream(request: Request, name: str, version: str = "") -> Response:
        """Previews and images as they are made; the answer is an event stream."""

        async def work() -> Response:
            content = await read_body(request.stream())
            answers = inference.stream(await off_loop(generate_call, content, name, version))
            first = await unless_gone(request, _first(answers))
            return EventStream(_texts(first, answers))

        return await answering(request, render, work())


async def _first(answers: AsyncGenerator[InferAnswer, None]) -> InferAnswer:
    return await anext(answers)


async def _texts(
    first: InferAnswer, answers: AsyncGenerator[InferAnswer, None]
) -> AsyncGenerator[str, None]:
    """The answers as events; a failure after the first is the last of them."""
    async with aclosing(answers):
        yield _event(generated(first))
        try:
            async for answer in answers:
                yield _event(generated(answer))
        except DarkroomError as error:
            yield _event(render(problem_of(error)))


def _event(data: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(data, separators=(',', ':'))}\n\n"


def _add_metadata(router: APIRouter, engine: Engine) -> None:
    async def server() -> Response:
        """What the server is, and which extensions it has."""
        return JSONResponse(server_metadata_json())

    router.add_api_route("", server, methods=["GET"])

    @router.get(_MODEL + "/stats")
    @router.get(_VERSION + "/stats")
    @router.get("/models/stats")
    async def statistics(request: Request, name: str = "", version: str = "") -> Response:
        """What was counted of a version, of a model, or of all."""

        async def work() -> Response:
            return JSONResponse(statistics_json(engine, name, version))

        return await answering(request, render, work())

    @router.get(_MODEL + "/config")
    @router.get(_VERSION + "/config")
    async def config(request: Request, name: str, version: str = "") -> Response:
        """How a model is configured, in Triton's terms."""

        async def work() -> Response:
            return JSONResponse(model_config_json(engine.get_model(name), version))

        return await answering(request, render, work())

    @router.get(_MODEL)
    @router.get(_VERSION)
    async def model(request: Request, name: str, version: str = "") -> Response:
        """The tensors that a model takes and gives."""

        async def work() -> Response:
            try:
                status = engine.get_model(name)
            except ModelNotFound:
                if name.rpartition("/")[2] in _POSTED:
                    raise HTTPException(405, headers={"allow": "POST"}) from None
                raise
            return JSONResponse(model_metadata_json(status, version))

        return await answering(request, render, work())


def _add_repository(router: APIRouter, engine: Engine) -> None:
    @router.post("/repository/index")
    @router.post("/repository/{repository}/index")
    async def index(request: Request, repository: str = "") -> Response:
        """Every version of every model; there is one repository, by whatever name."""
        del repository

        async def work() -> Response:
            only_ready = (await _object(request)).get("ready") is True
            return JSONResponse(repository_index_json(engine.list_models(), only_ready=only_ready))

        return await answering(request, render, work())

    @router.post("/repository/models/{name:path}/load")
    async def load(request: Request, name: str) -> Response:
        """Loads a model, and answers when it serves."""

        async def work() -> Response:
            await control.load(engine, name, await _given(request))
            return JSONResponse({})

        return await answering(request, render, work())

    @router.post("/repository/models/{name:path}/unload")
    async def unload(request: Request, name: str) -> Response:
        """Lets a model leave, and answers when it has."""

        async def work() -> Response:
            await control.unload(engine, name, await _given(request))
            return JSONResponse({})

        return await answering(request, render, work())


def _add_settings(router: APIRouter, engine: Engine) -> None:
    @router.get("/logging")
    async def log_settings() -> Response:
        """How much is logged."""
        return JSONResponse(control.log_settings())

    @router.post("/logging")
    async def change_log_settings(request: Request) -> Response:
        """Changes how much is logged."""

        async def work() -> Response:
            control.change_log_settings(await _object(request))
            return JSONResponse(control.log_settings())

        return await answering(request, render, work())

    @router.get("/trace/setting")
    @router.get(_MODEL + "/trace/setting")
    async def trace_settings(request: Request, name: str = "") -> Response:
        """Which requests are traced, of a model or of all."""

        async def work() -> Response:
            return JSONResponse(_trace_settings(engine, name))

        return await answering(request, render, work())

    @router.post("/trace/setting")
    @router.post(_MODEL + "/trace/setting")
    async def change_trace_settings(request: Request, name: str = "") -> Response:
        """Changes which requests are traced."""

        async def work() -> Response:
            changes = {key: _texts_of(value) for key, value in (await _object(request)).items()}
            control.change_trace_settings(engine, name, changes)
            return JSONResponse(_trace_settings(engine, name))

        return await answering(request, render, work())


def _trace_settings(engine: Engine, name: str) -> dict[str, Any]:
    """As Triton writes them: levels in a list, the rest as one text each."""
    settings = control.trace_settings(engine, name)
    return {
        key: list(value) if key == "trace_level" else value[0] for key, value in settings.items()
    }


def _texts_of(value: Any) -> tuple[str, ...]:
    found = value if isinstance(value, list) else [] if value is None else [value]
    return tuple(map(str, found))


def _add_shared_memory(router: APIRouter) -> None:
    async def shared_memory(request: Request, rest: str) -> Response:
        """Not offered."""
        del rest

        async def work() -> Response:
            raise NotOffered(SHARED_MEMORY)

        return await answering(request, render, work())

    for kind in ("systemsharedmemory", "cudasharedmemory"):
        for method in ("GET", "POST"):
            router.add_api_route(f"/{kind}/{{rest:path}}", shared_memory, methods=[method])


async def _object(request: Request) -> dict[str, Any]:
    """The JSON object that the body is, if there is one; raises InvalidParameter."""
    body = await read_body(request.stream())
    return await off_loop(parse_object, body) if body.strip() else {}


async def _given(request: Request) -> dict[str, Any]:
    """The parameters of a load or an unload."""
    found = (await _object(request)).get("parameters") or {}
    if not isinstance(found, dict):
        raise InvalidParameter("parameters", "is no object")
    return found
