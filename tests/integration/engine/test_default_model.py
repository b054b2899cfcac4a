from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from darkroom_server.engine.engine import Engine, EngineOptions
from darkroom_server.engine.model_control import ControlOptions
from darkroom_server.telemetry.metrics import Metrics
from tests.integration.engine.test_updates import add_version, write_config


@pytest.mark.parametrize(("name", "told"), [("fake", []), ("nobody", ["no model 'nobody'"])])
async def test_a_default_model_that_is_not_there_is_told_at_the_start(
    tmp_path: Path, name: str, told: list[str]
) -> None:
    write_config(tmp_path)
    add_version(tmp_path, 1)
    options = EngineOptions(
        model_repository=tmp_path,
        threads_per_worker=lambda _: 1,
        control=ControlOptions(is_explicit=True),
        default_model=name,
    )
    engine = Engine(options, Metrics())
    with structlog.testing.capture_logs() as logs:
        await engine.start()
    await engine.stop()
    found = [one for one in logs if one["event"] == "default model cannot be used"]
    assert [str(one["problem"]).partition(";")[0] for one in found] == told
