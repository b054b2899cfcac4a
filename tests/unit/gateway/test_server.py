from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from darkroom_server.domain.models import ModelStatus, VersionState, VersionStatus, all_ready
from darkroom_server.gateway.server import build_app
from darkroom_server.telemetry.metrics import IMAGES, Metrics
from tests.unit.wire.example_models import SDXL


@dataclass
class Engine:
    states: list[VersionState] = field(default_factory=list)
    leaving: bool = False

    def list_models(self) -> tuple[ModelStatus, ...]:
        return tuple(
            ModelStatus(
                model=SDXL, versions=(VersionStatus(version=1, state=s),), default_version=1
            )
            for s in self.states
        )

    def is_leaving(self) -> bool:
        return self.leaving

    def is_ready(self) -> bool:
        return all_ready(self.list_models()) and not self.leaving


async def answer(engine: Any, path: str, metrics: Metrics, accept: str = "") -> httpx.Response:
    transport = httpx.ASGITransport(app=build_app(engine, metrics))
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
        assert await status_of(engine, f"/v2/models/{SDXL.name}/ready") == ready


async def test_a_model_that_nobody_has_is_not_found() -> None:
    assert await status_of(Engine([VersionState.READY]), "/v2/models/nobody/ready") == 404


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
