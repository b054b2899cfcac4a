"""What workers do reaches the metrics, also after one of them died."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from darkroom_server.domain.model_status import VersionState
from darkroom_server.telemetry.metrics import Metrics
from tests.integration.engine.test_engine import (
    WAIT_S,
    fake_repository,
    first_progress,
    generate,
    running,
    submitted,
    until,
)
from tests.unit.specs import image_spec
from tests.unit.telemetry.test_metrics import scraped


def value(metrics: Metrics, name: str) -> float:
    return scraped(metrics)[f"darkroom_{name}", "fake", "1"]


async def until_value(metrics: Metrics, name: str, wanted: float) -> None:
    async with asyncio.timeout(WAIT_S):
        while value(metrics, name) != wanted:
            await asyncio.sleep(0.02)


async def test_requests_and_their_steps_are_counted(tmp_path: Path) -> None:
    metrics = Metrics()
    async with running(fake_repository(tmp_path), metrics) as engine:
        await generate(engine, image_spec(step_count=5))
        await generate(engine, image_spec(step_count=7, seeds=(1, 2)))
        # Both images share each step. The last steps are told while the worker is idle.
        await until_value(metrics, "steps_total", 5 + 7)
        assert value(metrics, "step_rows_sum") == 5 + 2 * 7
        assert value(metrics, "images_total") == 3
        assert value(metrics, "image_bytes_total") > 3 * 50
        assert value(metrics, "queue_seconds_count") == 2
        assert value(metrics, "worker_restarts_total") == 0


async def test_a_worker_that_dies_takes_no_counts_with_it(tmp_path: Path) -> None:
    metrics = Metrics()
    async with running(fake_repository(tmp_path, step_s=0.02), metrics) as engine:
        await generate(engine, image_spec(step_count=5))
        await until_value(metrics, "steps_total", 5)
        async with submitted(engine, image_spec(step_count=20)) as session:
            await first_progress(session)
            os.kill(engine.worker_pids()[0], signal.SIGKILL)
            await until(engine, VersionState.UNAVAILABLE)
            assert [event async for event in session.events()]
        assert value(metrics, "worker_restarts_total") == 1
        # A request that ran again had waited once; its steps count in each worker that told.
        assert value(metrics, "queue_seconds_count") == 2
        async with asyncio.timeout(WAIT_S):
            while value(metrics, "steps_total") < 25:
                await asyncio.sleep(0.02)
