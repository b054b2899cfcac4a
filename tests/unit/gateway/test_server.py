from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from darkroom_server.domain.models import ModelStatus, VersionState, VersionStatus, all_ready
from darkroom_server.gateway.server import build_app
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


async def status_of(engine: Any, path: str) -> int:
    transport = httpx.ASGITransport(app=build_app(engine))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return (await client.get(path)).status_code


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
