"""What is answered where nothing is served, by another method, or to a body that is packed."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI

from tests.integration.rpc.fake_engine import FakeEngine
from tests.unit.gateway.http_calls import client_of
from tests.unit.gateway.test_server import app_of

Shape = Callable[[Any, str], bool]


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return app_of(FakeEngine())


def is_openai(body: Any, text: str) -> bool:
    error = body["error"]
    return error.keys() == {"message", "type", "param", "code"} and text in error["message"]


def is_hugging_face(body: Any, text: str) -> bool:
    return body.keys() == {"error"} and text in body["error"]


def is_nebula(body: Any, text: str) -> bool:
    return body["status"] == "failed" and text in body["message"] and is_openai(body, text)


def is_replicate(body: Any, text: str) -> bool:
    return body.keys() == {"title", "detail", "status"} and text in body["detail"]


def is_fal(body: Any, text: str) -> bool:
    return text in body["message"] and text in str(body["detail"])


def is_events(body: Any, text: str) -> bool:
    return body["error"]["code"] == "UNIMPLEMENTED" and text in body["error"]["message"]


def is_connect(body: Any, text: str) -> bool:
    return body["code"] == "unimplemented" and text in body["message"]


DIALECTS = [
    ("/v1/chat/completions", is_openai),
    ("/v1/images/variations", is_openai),
    ("/together/v1/nothing", is_openai),
    ("/nebius/v1/models", is_openai),
    ("/api/v1/nothing", is_nebula),
    ("/v1/image/nothing", is_openai),
    ("/v1/predictions/1/nothing", is_replicate),
    ("/replicate/v1/nothing", is_replicate),
    ("/fal-ai", is_fal),
    ("/queue/fal-ai", is_fal),
    ("/darkroom/v1/nothing", is_events),
    ("/darkroom.v1.Nothing/Call", is_connect),
    ("/hf-inference/nothing", is_hugging_face),
    ("/v2/nothing", is_hugging_face),
    ("/nothing", is_hugging_face),
]


@pytest.mark.parametrize(("path", "shape"), DIALECTS)
async def test_nothing_is_told_in_the_dialect_of_the_address(
    app: FastAPI, path: str, shape: Shape
) -> None:
    async with client_of(app) as client:
        for answer in (await client.post(path, json={}), await client.get(path)):
            assert answer.status_code == 404
            assert shape(answer.json(), path), answer.text
            assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "shape"),
    [
        ("GET", "/v1/images/generations", is_openai),
        ("POST", "/v1/models", is_openai),
        ("PUT", "/api/v1/images/generation", is_nebula),
        ("DELETE", "/v1/predictions/1", is_replicate),
        ("GET", "/fal-ai/sdxl", is_fal),
        ("DELETE", "/darkroom/v1/generate", is_events),
        ("PATCH", "/models/sdxl", is_hugging_face),
    ],
)
async def test_another_method_is_told_so_too(
    app: FastAPI, method: str, path: str, shape: Shape
) -> None:
    async with client_of(app) as client:
        answer = await client.request(method, path)
        assert answer.status_code == 405
        assert shape(answer.json(), method), answer.text
        assert answer.headers["allow"]


async def test_a_slash_at_the_end_changes_nothing(app: FastAPI) -> None:
    async with client_of(app) as client:
        for path in ("/v1/models", "/v1/models/sdxl", "/api/v1/serverless/models", "/info"):
            whole, slashed = await client.get(path), await client.get(f"{path}/")
            assert (slashed.status_code, slashed.text) == (200, whole.text)
        paths = ["/v1/images/generations", "/models/sdxl", "/fal-ai/sdxl", "/v1/image/generation"]
        for path in paths:
            answer = await client.post(f"{path}//", json={"prompt": "x", "inputs": "x"})
            assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate, gzip"])
async def test_a_packed_body_is_told_to_be_one_on_every_route(app: FastAPI, encoding: str) -> None:
    packed = gzip.compress(b'{"prompt": "x"}')
    paths = [
        re.sub(r"\{\w+\}", "sdxl", path)
        for path, methods in app.openapi()["paths"].items()
        if methods.keys() & {"post", "put"}
    ]
    assert len(paths) > 20
    async with client_of(app) as client:
        for path in paths:
            headers = {"content-encoding": encoding, "content-type": "application/json"}
            method = "PUT" if path.endswith("1/cancel") and "fal-ai" in path else "POST"
            answer = await client.request(method, path, content=packed, headers=headers)
            assert answer.status_code == 415, path
            assert encoding.lower() in answer.text
            assert answer.headers["accept-encoding"] == "identity"


async def test_a_body_that_says_it_is_not_packed_is_taken(app: FastAPI) -> None:
    headers = {"content-encoding": "identity"}
    async with client_of(app) as client:
        answer = await client.post("/fal-ai/sdxl", json={"prompt": "x"}, headers=headers)
        assert answer.status_code == 200, answer.text
