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
from darkroom_server.gateway.authentication import STANDING_HEADERS, need_of
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
    limits: dict[str, Any] = {
        "rate_limit": "2/hour",
        "budget_pixel_steps": 10_000_000,
        "weight": 2.5,
    }
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
        ("HEAD", "/files/0123.png", Need.NOTHING),
        ("HEAD", "/v1/models", Need.KEY),
        ("GET", "/fal-ai/x/requests/0123", Need.KEY),
        ("GET", "/queue/fal-ai/x/requests/0123/status", Need.KEY),
        ("GET", "/v1/predictions/0123", Need.KEY),
        ("POST", "/", Need.KEY),
        ("POST", "/models/x/health", Need.KEY),
        ("GET", "/v1/models/x/health", Need.KEY),
        ("GET", "/v1/models", Need.KEY),
        ("GET", "/info", Need.KEY),
        ("GET", "/darkroom/v1/key", Need.KEY),
        ("GET", "/playground/../darkroom/v1/key", Need.KEY),
        ("GET", "/metrics/", Need.KEY),
        ("GET", "/v2", Need.KEY),
        ("GET", "/v2/models/sdxl", Need.KEY),
        ("POST", "/v2/models/sdxl/infer", Need.KEY),
        ("POST", "/v2/repository/index", Need.KEY),
        ("POST", "/v2/repository/models/sdxl/load", Need.MANAGE),
        ("POST", "/v2/repository/models/org/sdxl/unload", Need.MANAGE),
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
    routes += [("GET", "/v2"), ("GET", "/v2/models/x"), ("GET", "/v2/models/stats")]
    routes += [("POST", "/v2/models/x/infer"), ("POST", "/v2/repository/models/x/load")]
    for method, path in routes:
        answer = await http.request(method, re.sub(r"\{\w+\}", "x", path))
        is_open = method == "GET" and path in OPEN
        assert (answer.status_code == 401) is not is_open, (method, path)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer:", "Key", "key"])
async def test_a_key_may_be_shown_as_fal_s_clients_do(
    http: httpx.AsyncClient, made: NewKey, scheme: str
) -> None:
    shown = {"authorization": f"{scheme} {made.text}"}
    assert (await http.get("/v1/models", headers=shown)).status_code == 200
    assert (await http.head("/v1/models/", headers=shown)).status_code == 200
    assert (await http.head("/v1/models")).status_code == 401


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
        ("/fal-ai/name", lambda body: body["detail"] and body["error_type"]),
        ("/queue/fal-ai/name", lambda body: body["message"] and body["error_type"]),
        ("/models/org/name", lambda body: body["error"] and "invalid_api_key"),
        ("/v2/models/name/infer", lambda body: body["error"] and "invalid_api_key"),
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
    assert standing["weight"] == 2.5
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


@pytest.mark.parametrize(
    ("path", "given"),
    [
        pytest.param("/v1/images/generations", {"content": b"[],"}, id="no-json"),
        pytest.param("/v1/images/generations", {"json": {"prompt": ""}}, id="no-prompt"),
        pytest.param("/v1/images/generations", {"json": {"model": "nobody"}}, id="no-model"),
        pytest.param("/v1/images/edits", {"data": {"prompt": "a"}}, id="no-form"),
        pytest.param("/darkroom/v1/fill", {"json": {"promt": "a"}}, id="no-field"),
        pytest.param("/models/sdxl", {"json": {}}, id="no-inputs"),
        pytest.param("/v1/predictions", {"json": {}}, id="no-input"),
        pytest.param("/api/v1/images/generation", {"json": []}, id="no-object"),
        pytest.param("/darkroom.v1.ImageService/Generate", {}, id="no-message"),
        pytest.param("/darkroom.v1.ImageService/Fill", {"content": b"{}"}, id="no-envelope"),
    ],
)
async def test_a_request_counts_whatever_it_turns_out_to_be(
    http: httpx.AsyncClient, made: NewKey, path: str, given: dict[str, Any]
) -> None:
    shown = {"authorization": f"Bearer {made.text}"}
    if path.startswith("/darkroom.v1."):
        shown |= {"content-type": "application/connect+json", "connect-protocol-version": "1"}
    for left in (1, 0):
        assert (await http.post(path, headers=shown, **given)).status_code != 429
        standing = (await http.get("/darkroom/v1/key", headers=shown)).json()
        assert standing["rateLimit"]["remaining"] == left
    answer = await http.post(path, headers=shown, **given)
    assert answer.status_code == 429 or b"resource_exhausted" in answer.content
    assert b"2 requests in 1 hour" in answer.content


async def test_a_call_that_asks_for_no_image_does_not_count(
    http: httpx.AsyncClient, made: NewKey
) -> None:
    shown = {"authorization": f"Bearer {made.text}"}
    await http.get("/v1/models", headers=shown)
    await http.post("/v1/predictions/nothing/cancel", headers=shown)
    await http.post("/darkroom.v1.ModelService/ListModels", headers=shown, json={})
    standing = (await http.get("/darkroom/v1/key", headers=shown)).json()
    assert standing["rateLimit"]["remaining"] == 2


@pytest.mark.parametrize("path", ["/v1/images/generations", "/darkroom/v1/fill", "/nothing/here"])
@pytest.mark.parametrize("is_known", [False, True], ids=["without-a-key", "without-a-request-left"])
async def test_who_is_turned_away_is_so_before_its_body_is_read(
    gate: Gate, made: NewKey, path: str, is_known: bool
) -> None:
    async def receive() -> Any:
        raise AssertionError("the body was asked for")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {made.text}".encode())] if is_known else []
    if is_known:
        for _ in range(2):
            await gate.enter(f"Bearer {made.text}", Need.KEY).count()
    scope = {"type": "http", "method": "POST", "path": path}
    scope |= {"headers": headers, "query_string": b"", "root_path": ""}
    await app_of(Engine(), gate=gate)(scope, receive, send)
    assert sent[0]["status"] == (429 if is_known else 401)
