"""Which HTTP calls need a key, and how one that is turned away looks."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

from darkroom_server.access.gate import Gate, GateOptions, Need
from darkroom_server.access.key_format import NewKey, new_key
from darkroom_server.access.keys_file import add_key
from darkroom_server.gateway.callers import STANDING_HEADERS, need_of
from tests.integration.rpc.fake_engine import FakeEngine
from tests.unit.access.example_keys import api_key
from tests.unit.gateway.test_server import app_of


class Engine(FakeEngine):
    async def scanned(self) -> None:
        """Has been."""

    def is_ready(self) -> bool:
        return True


@pytest.fixture
def made() -> NewKey:
    return new_key()


@pytest.fixture
async def gate(tmp_path: Path, made: NewKey) -> AsyncIterator[Gate]:
    limits: dict[str, Any] = {"rate_limit": "2/hour", "budget_pixel_steps": 10_000_000}
    add_key(tmp_path / "keys.toml", api_key(made, **limits))
    gate = Gate(GateOptions(keys_file=tmp_path / "keys.toml"))
    yield gate
    await gate.stop()


@pytest.fixture
async def http(gate: Gate) -> AsyncIterator[httpx.AsyncClient]:
    app = app_of(Engine(), origins=("https://example.com",), gate=gate)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "need"),
    [
        ("GET", "/", Need.NOTHING),
        ("GET", "/playground/api.js", Need.NOTHING),
        ("GET", "/metrics", Need.NOTHING),
        ("GET", "/openapi.json", Need.NOTHING),
        ("GET", "/v2/health/live", Need.NOTHING),
        ("GET", "/v2/health/ready", Need.NOTHING),
        ("GET", "/v2/models/sdxl/ready", Need.NOTHING),
        ("GET", "/v2/models/some/hub-id/ready", Need.NOTHING),
        ("GET", "/v2/models/sdxl/versions/3/ready", Need.NOTHING),
        ("GET", "/health", Need.NOTHING),
        ("GET", "/v1/health", Need.NOTHING),
        ("GET", "/models/org/name/health", Need.NOTHING),
        ("GET", "/hf-inference/models/org/name/health", Need.NOTHING),
        ("GET", "/files/0123.png", Need.NOTHING),
        ("GET", "/v1/predictions/0123", Need.KEY),
        ("POST", "/", Need.KEY),
        ("POST", "/models/x/health", Need.KEY),
        ("GET", "/v1/models/x/health", Need.KEY),
        ("GET", "/v1/models", Need.KEY),
        ("GET", "/info", Need.KEY),
        ("GET", "/darkroom/v1/key", Need.KEY),
        ("GET", "/playground/../darkroom/v1/key", Need.KEY),
        ("GET", "/metrics/", Need.KEY),
        ("GET", "/nothing/here", Need.KEY),
    ],
)
def test_what_a_call_needs(method: str, path: str, need: Need) -> None:
    assert need_of(method, path) is need


OPEN = {
    "/metrics", "/v2/health/live", "/v2/health/ready", "/v2/models/{name}/ready", "/health",
    "/v2/models/{name}/versions/{version}/ready",
    "/v1/health", "/models/{model}/health", "/hf-inference/models/{model}/health",
    "/files/{name}",
}  # fmt: skip


async def test_every_other_route_turns_away_who_has_no_key(
    http: httpx.AsyncClient, gate: Gate
) -> None:
    app = app_of(Engine(), gate=gate)
    routes = [
        (method.upper(), path)
        for path, methods in app.openapi()["paths"].items()
        for method in methods
    ]
    assert ("POST", "/v1/images/generations") in routes
    for method, path in routes:
        answer = await http.request(method, re.sub(r"\{\w+\}", "x", path))
        is_open = method == "GET" and path in OPEN
        assert (answer.status_code == 401) is not is_open, (method, path)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/api/v1/images/generation", lambda body: body["error"]["code"]),
        ("/v1/images/generations", lambda body: body["error"]["code"]),
        ("/together/v1/images/generations", lambda body: body["error"]["code"]),
        ("/v1/images/edits", lambda body: body["error"]["code"]),
        ("/v1/image/generation", lambda body: body["error"]["code"]),
        ("/darkroom/v1/generate", lambda body: body["error"]["reason"].lower()),
        ("/v1/predictions", lambda body: body["status"] == 401 and "invalid_api_key"),
        ("/replicate/v1/predictions", lambda body: body["status"] == 401 and "invalid_api_key"),
        ("/v1/models/org/name/predictions", lambda body: body["detail"] and "invalid_api_key"),
        ("/models/org/name", lambda body: body["error"] and "invalid_api_key"),
        ("/", lambda body: body["error"] and "invalid_api_key"),
    ],
)
@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer sk-other"}])
async def test_every_dialect_is_told_in_its_own_words(
    http: httpx.AsyncClient, path: str, told: Any, header: dict[str, str]
) -> None:
    answer = await http.post(path, json={"prompt": "x", "inputs": "x"}, headers=header)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-request-id"]
    assert told(answer.json()) == "invalid_api_key"
    assert "sk-other" not in answer.text
    if path in ("/", "/models/org/name"):
        assert isinstance(answer.json()["error"], str)


async def test_a_page_of_another_origin_can_ask_with_a_key(http: httpx.AsyncClient) -> None:
    origin = {"origin": "https://example.com"}
    asked = {**origin, "access-control-request-method": "POST"}
    asked["access-control-request-headers"] = "authorization"
    answer = await http.options("/v1/images/generations", headers=asked)
    assert answer.status_code == 200
    assert "authorization" in answer.headers["access-control-allow-headers"]
    answer = await http.post("/v1/images/generations", headers=origin)
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == "https://example.com"
    exposed = answer.headers["access-control-expose-headers"]
    assert all(name in exposed for name in STANDING_HEADERS)


async def test_a_caller_sees_how_its_key_stands(http: httpx.AsyncClient, made: NewKey) -> None:
    shown = {"authorization": f"Bearer: {made.text}"}
    body = {"prompt": "x", "width": 256, "height": 256, "steps": 20}
    made_image = await http.post("/v1/images/generations", json=body, headers=shown)
    assert made_image.status_code == 200
    assert made_image.headers["x-ratelimit-limit-requests"] == "2"
    assert made_image.headers["x-ratelimit-remaining-requests"] == "1"
    assert made_image.headers["x-ratelimit-reset-requests"].endswith("s")
    assert made_image.headers["x-darkroom-credits-left"] == "8.689280"
    standing = (await http.get("/darkroom/v1/key", headers=shown)).json()
    assert standing["id"] == made.id
    assert standing["permissions"] == ["fill", "generate"]
    assert standing["rateLimit"]["remaining"] == 1
    assert standing["credits"] == {"spent": 1.31072, "budget": 10.0, "left": 8.68928}
    assert made.text not in json.dumps(standing)


async def test_the_document_tells_of_the_key(gate: Gate) -> None:
    document = app_of(Engine(), gate=gate).openapi()
    validate(document)
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert document["paths"]["/v1/images/generations"]["post"]["security"] == [{"HTTPBearer": []}]
    assert "security" not in document["paths"]["/metrics"]["get"]
    assert "securitySchemes" not in app_of(Engine()).openapi().get("components", {})


async def test_where_no_keys_are_needed_that_is_what_is_said() -> None:
    transport = httpx.ASGITransport(app=app_of(Engine()))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/darkroom/v1/key")
        assert answer.json() == {"required": False}
        made = await client.post("/v1/images/generations", json={"prompt": "x"})
        assert made.status_code == 200
        assert not set(STANDING_HEADERS) & set(made.headers)


@pytest.mark.parametrize(
    ("method", "content_type"),
    [
        ("ImageService/Fill", b"application/connect+json"),
        ("ModelService/GetModel", b"application/json"),
    ],
)
async def test_an_rpc_is_turned_away_before_its_body_is_read(
    gate: Gate, method: str, content_type: bytes
) -> None:
    async def receive() -> Any:
        raise AssertionError("the body was asked for")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": f"/darkroom.v1.{method}"}
    scope |= {"headers": [(b"content-type", content_type)], "query_string": b"", "root_path": ""}
    await app_of(Engine(), gate=gate)(scope, receive, send)
    assert b'"unauthenticated"' in b"".join(one.get("body", b"") for one in sent)
