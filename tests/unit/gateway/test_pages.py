"""Pages of other sites, in a browser that reaches a server without keys."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from darkroom_server.access.gate import Gate, GateOptions
from darkroom_server.gateway.connect import Servicers
from darkroom_server.gateway.pages import is_of_this_machine
from darkroom_server.gateway.server import HttpOptions, build_app
from darkroom_server.image_decoding.images import ImageLimits
from darkroom_server.rpc.server import servicers
from darkroom_server.telemetry.metrics import Metrics
from tests.unit.gateway.test_authentication import Engine, gate, made

__all__ = ["gate", "made"]

EVIL = "https://evil.example"
JSON = {"content-type": "application/json"}
LISTS = ("/v1/models", "/darkroom/v1/models", "/info", "/metrics", "/", "/openapi.json")
MAKERS = (
    "/v1/images/generations",
    "/darkroom/v1/generate",
    "/api/v1/images/generation",
    "/v1/predictions",
    "/models/sdxl",
    "/",
    "/darkroom.v1.ImageService/Generate",
    "/darkroom.v1.ModelService/ListModels",
)


def app_of(options: HttpOptions, gate: Gate | None = None, engine: Any = None) -> FastAPI:
    engine = engine or Engine()
    found = Servicers(*servicers(engine, ImageLimits()))
    return build_app(engine, Metrics(), gate or Gate(GateOptions()), found, options)


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:8000")


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return app_of(HttpOptions("127.0.0.1", 8000, 8001))


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example"])
async def test_a_name_that_is_not_this_machines_reads_nothing(
    http: httpx.AsyncClient, path: str, host: str
) -> None:
    answer = await http.get(path, headers={"host": host})
    assert answer.status_code == 403
    assert "not called" in answer.text
    assert "allowed_hosts" in answer.text


@pytest.mark.parametrize("path", MAKERS)
@pytest.mark.parametrize(
    "shown",
    [
        pytest.param({"origin": EVIL}, id="origin"),
        pytest.param({"origin": "null"}, id="a-page-without-an-origin"),
        pytest.param({"origin": "http://localhost:3000"}, id="another-port"),
        pytest.param({"sec-fetch-site": "cross-site"}, id="cross-site"),
        pytest.param({"sec-fetch-site": "same-site"}, id="same-site"),
        pytest.param({"origin": EVIL, "sec-fetch-site": "cross-site"}, id="both"),
        pytest.param({"host": "evil.example", "origin": "http://evil.example"}, id="rebound"),
    ],
)
async def test_a_page_of_another_site_makes_nothing(
    http: httpx.AsyncClient, path: str, shown: dict[str, str]
) -> None:
    answer = await http.post(path, json={"prompt": "a"}, headers=shown)
    assert answer.status_code == 403
    assert "PERMISSION_DENIED" in answer.text.upper() or "setting" in answer.text
    assert "cors_origins" in answer.text or "allowed_hosts" in answer.text


#: What a page may send to another site without asking first, and what it must ask for.
TYPES = [
    *("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", ""),
    *("application/json", "application/proto", "image/png"),
]


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param({"origin": EVIL}, id="origin"),
        pytest.param({"origin": "null"}, id="a-page-without-an-origin"),
        pytest.param({"sec-fetch-site": "cross-site"}, id="cross-site"),
        pytest.param({"referer": f"{EVIL}/page"}, id="referer-alone"),
        pytest.param({"referer": "about:client"}, id="a-referer-that-is-none"),
    ],
)
async def test_no_route_that_changes_anything_is_open_to_pages_of_other_sites(
    shown: dict[str, str],
) -> None:
    engine = Engine()
    app = app_of(HttpOptions("127.0.0.1", 8000, 8001), engine=engine)
    called: list[str] = []
    async with client_of(app) as client:
        for path, methods in _routes(app):
            for method, kind in ((m, k) for m in methods for k in TYPES):
                headers = {**shown, "content-type": kind} if kind else shown
                content = b'{"prompt": "a"}'
                answer = await client.request(method, path, content=content, headers=headers)
                assert answer.status_code == 403, (method, path, kind)
                called.append(path)
    assert {"/v1/images/edits", "/fal-ai/sdxl", "/darkroom.v1.ImageService/Generate"} <= {*called}
    assert engine.sessions == []


def _routes(app: FastAPI) -> list[tuple[str, list[str]]]:
    """Every path, with a model's name for what is open, and its methods that are no looking."""
    looking = {"get", "head", "options"}
    found = [
        (re.sub(r"\{[^}]*\}", "sdxl", path), sorted({*operations} - looking))
        for path, operations in app.openapi()["paths"].items()
    ]
    rpcs = ("ImageService/Generate", "ImageService/Fill", "ModelService/LoadModel")
    found += [(f"/darkroom.v1.{name}", ["post"]) for name in rpcs]
    return [(path, [one.upper() for one in methods]) for path, methods in found if methods]


@pytest.mark.parametrize("path", MAKERS)
async def test_what_is_said_to_be_text_is_not_read_as_json(
    http: httpx.AsyncClient, path: str
) -> None:
    headers = {"content-type": "Text/Plain; charset=utf-8"}
    answer = await http.post(path, content=b'{"prompt": "a"}', headers=headers)
    assert answer.status_code == 415
    assert "the body is said to be text/plain; send JSON" in answer.text


async def test_what_curl_says_unless_told_otherwise_is(http: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    body = b'{"prompt": "a"}'
    answer = await http.post("/v1/images/generations", content=body, headers=headers)
    assert answer.status_code == 200
    headers["origin"] = EVIL
    answer = await http.post("/v1/images/generations", content=body, headers=headers)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param({}, id="a-program"),
        pytest.param({"referer": "http://localhost:8000/"}, id="its-own-page-without-an-origin"),
        pytest.param({"host": "127.0.0.1:8000"}, id="by-address"),
        pytest.param({"host": "[::1]:8000"}, id="by-ipv6"),
        pytest.param({"host": "LOCALHOST"}, id="in-capitals"),
        pytest.param({"host": "darkroom.localhost"}, id="below-localhost"),
        pytest.param({"origin": "http://localhost:8000"}, id="its-own-page"),
        pytest.param(
            {"host": "127.0.0.1", "origin": "http://127.0.0.1", "sec-fetch-site": "same-origin"},
            id="its-own-page-at-80",
        ),
        pytest.param(
            {"origin": "https://a.example", "sec-fetch-site": "same-origin"}, id="behind-a-proxy"
        ),
        pytest.param({"sec-fetch-site": "none", "sec-fetch-mode": "cors"}, id="a-program-in-node"),
    ],
)
async def test_the_others_are_served(http: httpx.AsyncClient, shown: dict[str, str]) -> None:
    assert (await http.get("/v1/models", headers=shown)).status_code == 200
    answer = await http.post("/v1/images/generations", json={"prompt": ""}, headers=shown)
    assert answer.status_code == 400
    linked = {**shown, "sec-fetch-site": "cross-site"}
    if "origin" not in shown:
        assert (await http.get("/", headers=linked)).status_code == 200


async def test_what_was_allowed_may_call() -> None:
    options = HttpOptions("127.0.0.1", 8000, 8001, (EVIL,), allowed_hosts=("Darkroom.local",))
    async with client_of(app_of(options)) as http:
        shown = {"origin": EVIL, "host": "darkroom.local:80"}
        assert (await http.get("/v1/models", headers=shown)).status_code == 200
        answer = await http.post("/v1/images/generations", json={"prompt": ""}, headers=shown)
        assert answer.status_code == 400
        assert answer.headers["access-control-allow-origin"] == EVIL
        other = {"origin": "https://b.example"}
        assert (await http.get("/v1/models", headers=other)).status_code == 403
        assert (await http.get("/v1/models", headers={"host": "b.example"})).status_code == 403


async def test_beyond_loopback_any_name_will_do_but_no_other_page() -> None:
    async with client_of(app_of(HttpOptions("0.0.0.0", 8000, 8001))) as http:
        assert (await http.get("/v1/models", headers={"host": "a.example"})).status_code == 200
        shown = {"host": "a.example", "origin": EVIL}
        assert (await http.post("/", json={}, headers=shown)).status_code == 403


async def test_where_a_key_is_asked_for_that_is_all_that_is(gate: Gate) -> None:
    async with client_of(app_of(HttpOptions("127.0.0.1", 8000, 8001), gate)) as http:
        answer = await http.get("/v1/models", headers={"host": "a.example", "origin": EVIL})
        assert answer.status_code == 401


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        ("localhost", True), ("a.localhost", True), ("127.0.0.1", True), ("127.8.8.8", True),
        ("[::1]", True), ("::1", True), ("0.0.0.0", False), ("10.0.0.1", False), ("", False),
        ("127.0.0.1.evil.example", False), ("evil.example", False), ("notlocalhost", False),
    ],
)  # fmt: skip
def test_which_names_lead_nowhere_else(name: str, is_ours: bool) -> None:
    assert is_of_this_machine(name) is is_ours
