from __future__ import annotations

import pytest

from darkroom_server.engine.version_metrics import VersionMetrics
from darkroom_server.telemetry.metrics import Metrics
from darkroom_server.worker.messages import WorkerStats
from tests.unit.telemetry.test_metrics import scraped

FIRST = WorkerStats(
    step_count_by_rows=((2, 3),),
    capacity_row_count=24,
    prompt_cache_hit_count=1,
    prompt_cache_miss_count=2,
    prompt_cache_bytes=100,
)
THEN = WorkerStats(
    step_count_by_rows=((2, 4), (8, 1)),
    capacity_row_count=40,
    prompt_cache_hit_count=5,
    prompt_cache_miss_count=2,
    prompt_cache_bytes=70,
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def version(metrics: Metrics) -> VersionMetrics:
    return VersionMetrics(metrics, model="tiny", version=3)


def values(metrics: Metrics) -> dict[str, float]:
    """What is scraped of the version, without the buckets."""
    return {
        name.removeprefix("darkroom_"): value
        for (name, *labels), value in scraped(metrics).items()
        if labels == ["tiny", "3"]
    }


def test_what_a_worker_tells_twice_is_booked_once(
    metrics: Metrics, version: VersionMetrics
) -> None:
    for stats in (FIRST, THEN, THEN):
        version.worker_told(0, stats)
    found = values(metrics)
    assert (found["steps_total"], found["step_rows_count"]) == (5, 5)
    assert (found["step_rows_sum"], found["step_capacity_rows_total"]) == (16, 40)
    assert (found["prompt_cache_hits_total"], found["prompt_cache_misses_total"]) == (5, 2)
    assert found["prompt_cache_bytes"] == 70


def test_the_next_worker_counts_on_top_of_the_one_before(
    metrics: Metrics, version: VersionMetrics
) -> None:
    version.worker_told(0, THEN)
    version.worker_gone(0)
    version.worker_restarted()
    assert values(metrics)["prompt_cache_bytes"] == 0
    version.worker_told(0, FIRST)
    found = values(metrics)
    assert (found["steps_total"], found["step_rows_sum"]) == (8, 22)
    assert (found["step_capacity_rows_total"], found["prompt_cache_hits_total"]) == (64, 6)
    assert found["worker_restarts_total"] == 1


def test_jobs_and_images_are_booked(metrics: Metrics, version: VersionMetrics) -> None:
    version.job_begun(0.25)
    version.job_begun(2.0)
    version.image_made(1000)
    version.image_made(500)
    found = values(metrics)
    assert (found["queue_seconds_count"], found["queue_seconds_sum"]) == (2, 2.25)
    assert (found["images_total"], found["image_bytes_total"]) == (2, 1500)
