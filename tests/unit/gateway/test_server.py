from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from darkroom_server.access.gate import Gate, GateOptions
from darkroom_server.domain.errors import ModelNotFound
from darkroom_server.domain.model_status import ModelStatus, VersionState, VersionStatus, all_ready
from darkroom_server.engine.undelivered import Undelivered
from darkroom_server.gateway.connect import Servicers
from darkroom_server.gateway.server import HttpOptions, build_app
from darkroom_server.rpc.server import servicers
from darkroom_server.telemetry.metric_list import IMAGES
from darkroom_server.telemetry.metrics import Metrics
from tests.unit.example_models import SDXL
from tests.unit.image_decoding.pictures_here import PicturesHere


@dataclass
class Engine:
    states: list[VersionState] = field(default_factory=list)
    leaving: bool = False
    undelivered: Undelivered = field(
        default_factory=lambda: Undelivered(max_bytes=1 << 30, max_call_bytes=1 << 29)
    )

    async def scanned(self) -> None:
        """Has been."""

    def list_models(self) -> tuple[ModelStatus, ...]:
        return tuple(
            ModelStatus(
                model=SDXL,
                versions=(VersionStatus(version=1, state=s, labels=("stable",)),),
                default_version=1,
            )
            for s in self.states
        )

    def get_model(self, name: str) -> ModelStatus:
        for one in self.list_models():
            if name in (one.model.name, one.model.hub_id, *one.model.aliases):
                return one
        raise ModelNotFound(name, "no such model")

    def is_leaving(self) -> bool:
        return self.leaving

    def is_ready(self) -> bool:
        return all_ready(self.list_models()) and not self.leaving


def app_of(
    engine: Any,
    metrics: Metrics | None = None,
    origins: tuple[str, ...] = (),
    gate: Gate | None = None,
) -> FastAPI:
    found = Servicers(*servicers(engine, PicturesHere()))
    options = HttpOptions("", 0, 8001, origins, pictures=PicturesHere())
    return build_app(engine, metrics or Metrics(), gate or Gate(GateOptions()), found, options)


async def answer(engine: Any, path: str, metrics: Metrics, accept: str = "") -> httpx.Response:
    transport = httpx.ASGITransport(app=app_of(engine, metrics))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get(path, headers={"accept": accept})


async def status_of(engine: Any, path: str) -> int:
    return (await answer(engine, path, Metrics())).status_code


@pytest.mark.parametrize(
    ("engine", "live", "ready"),
    [
        pytest.param(Engine([VersionState.READY]), 200, 200, id="serving"),
        pytest.param(Engine([VersionState.LOADING]), 200, 503, id="loading"),
        pytest.param(Engine([VersionState.UNAVAILABLE]), 200, 503, id="worker-away"),
        pytest.param(Engine([VersionState.READY], leaving=True), 200, 503, id="draining"),
        pytest.param(Engine([]), 200, 503, id="no-models"),
    ],
)
async def test_probes_tell_the_truth(engine: Engine, live: int, ready: int) -> None:
    assert await status_of(engine, "/v2/health/live") == live
    assert await status_of(engine, "/v2/health/ready") == ready
    if engine.states:
        for name in (SDXL.name, f"models/{SDXL.name}", SDXL.hub_id, *SDXL.aliases):
            for version in ("", "/versions/1", "/versions/stable"):
                assert await status_of(engine, f"/v2/models/{name}{version}/ready") == ready


@pytest.mark.parametrize(
    "name", ["nobody", "", "some/body", "sdxl/versions/2", "sdxl/versions/old", "xl/versions/01"]
)
async def test_a_model_or_version_that_nobody_has_is_not_found(name: str) -> None:
    assert await status_of(Engine([VersionState.READY]), f"/v2/models/{name}/ready") == 404


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        pytest.param("*/*", "text/plain", id="text"),
        pytest.param("application/openmetrics-text", "application/openmetrics-text", id="open"),
    ],
)
async def test_metrics_can_be_scraped(accept: str, media_type: str) -> None:
    metrics = Metrics()
    metrics.count(IMAGES, ("tiny", "1"), 3)
    response = await answer(Engine(), "/metrics", metrics, accept)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(f"{media_type};")
    assert 'darkroom_images_total{model="tiny",version="1"} 3.0' in response.text.splitlines()


async def test_a_call_before_the_repository_was_read_waits_for_it() -> None:
    read = asyncio.Event()

    class Reading(Engine):
        async def scanned(self) -> None:
            await read.wait()

    call = asyncio.create_task(status_of(Reading([VersionState.READY]), "/v1/models"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not call.done()
    read.set()
    assert await call == 200


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        pytest.param((), "https://a.example", None, id="off"),
        pytest.param(("https://a.example",), "https://a.example", "https://a.example", id="on"),
        pytest.param(("https://a.example",), "https://b.example", None, id="another"),
    ],
)
async def test_only_pages_of_configured_origins_may_call(
    origins: tuple[str, ...], origin: str, allowed: str | None
) -> None:
    engine: Any = Engine([VersionState.READY])
    transport = httpx.ASGITransport(app=app_of(engine, origins=origins))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/v1/models", headers={"origin": origin})
        asked = {"origin": origin, "access-control-request-method": "POST"}
        preflight = await client.options("/v1/images/generations", headers=asked)
    assert answer.headers.get("access-control-allow-origin") == allowed
    assert preflight.headers.get("access-control-allow-origin") == allowed


async def test_docs_says_where_the_documentation_is() -> None:
    transport = httpx.ASGITransport(app=app_of(Engine()))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/docs")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    for place in ("docs/index.md", "/openapi.json", "reflection"):
        assert place in answer.text
