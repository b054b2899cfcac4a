from __future__ import annotations

import pytest

from darkroom_server.domain.jobs import (
    ImageFormat,
    Job,
    JobCompleted,
    JobImage,
    JobPreview,
    JobProgress,
    JobQueued,
    JobTimings,
    Stage,
)
from darkroom_server.domain.model_status import VersionState
from darkroom_server.engine.active_job import ActiveJob
from darkroom_server.engine.stream import JobStream
from darkroom_server.engine.version_metrics import VersionLook, VersionMetrics
from darkroom_server.telemetry.metric_list import STAGE_SECONDS, STATES
from darkroom_server.telemetry.metrics import Metrics
from darkroom_server.worker.messages import WorkerStats
from tests.unit.specs import image_spec
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
        version.worker_reported(0, stats)
    found = values(metrics)
    assert (found["steps_total"], found["step_rows_count"]) == (5, 5)
    assert (found["step_rows_sum"], found["step_capacity_rows_total"]) == (16, 40)
    assert (found["prompt_cache_hits_total"], found["prompt_cache_misses_total"]) == (5, 2)
    assert found["prompt_cache_bytes"] == 70


def test_the_next_worker_counts_on_top_of_the_one_before(
    metrics: Metrics, version: VersionMetrics
) -> None:
    version.worker_reported(0, THEN)
    version.worker_gone(0)
    version.worker_restarted()
    assert values(metrics)["prompt_cache_bytes"] == 0
    version.worker_reported(0, FIRST)
    found = values(metrics)
    assert (found["steps_total"], found["step_rows_sum"]) == (8, 22)
    assert (found["step_capacity_rows_total"], found["prompt_cache_hits_total"]) == (64, 6)
    assert found["worker_restarts_total"] == 1


def active(deadline_s: float | None = None) -> ActiveJob:
    """A job that was admitted at 10 s."""
    one = Job(job_id="a", spec=image_spec(), deadline_s=deadline_s)
    return ActiveJob(one, JobStream(), 10.0, is_promised=True)


def image(width_px: int, height_px: int, size_bytes: int) -> JobImage:
    return JobImage(
        image_index=0,
        format=ImageFormat.PNG,
        width_px=width_px,
        height_px=height_px,
        seed=1,
        content=bytes(size_bytes),
        sha256=b"",
    )


PREVIEW = JobPreview(image_index=0, completed_step_count=1, content=b"", width_px=8, height_px=8)
PROGRESS = JobProgress(stage=Stage.ENCODE)


def test_the_time_in_the_queue_is_that_until_work_first_began(
    metrics: Metrics, version: VersionMetrics
) -> None:
    one = active()
    version.job_event(one, PROGRESS, 10.25)
    one.is_begun = True
    version.job_event(one, PROGRESS, 11.0)
    found = values(metrics)
    assert (found["queue_seconds_count"], found["queue_seconds_sum"]) == (1, 0.25)


def test_images_count_by_number_bytes_and_megapixels(
    metrics: Metrics, version: VersionMetrics
) -> None:
    version.job_event(active(), image(1000, 500, 7), 12.0)
    version.job_event(active(), image(1000, 1000, 5), 12.0)
    found = values(metrics)
    assert (found["images_total"], found["image_bytes_total"]) == (2, 12)
    assert found["megapixels_total"] == 1.5


def test_only_the_first_preview_of_a_request_is_timed(
    metrics: Metrics, version: VersionMetrics
) -> None:
    one = active()
    for now_s in (10.5, 11.0):
        version.job_event(one, PREVIEW, now_s)
    found = values(metrics)
    assert (found["first_preview_seconds_count"], found["first_preview_seconds_sum"]) == (1, 0.5)


def test_a_completed_request_is_seen_in_every_stage_and_beside_its_first_estimate(
    metrics: Metrics, version: VersionMetrics
) -> None:
    one = active()
    for estimated_s in (2.5, 9.0):
        version.job_event(one, JobQueued(0, estimated_s=estimated_s), 10.5)
    timings = JobTimings(queue_s=1, denoise_s=2, decode_s=0.5, compress_s=0.5, total_s=4)
    version.job_event(one, JobCompleted(image_count=1, timings=timings), 14.0)
    found = scraped(metrics)
    by_stage = {
        stage: found["darkroom_stage_seconds_sum", "tiny", "3", stage]
        for stage in STAGE_SECONDS.values
    }
    assert by_stage == {
        "queue": 1, "load": 0, "encode": 0, "denoise": 2, "decode": 0.5, "compress": 0.5, "total": 4
    }  # fmt: skip
    # It was said to take 3 s and took 4.
    assert values(metrics)["estimate_error_ratio_sum"] == 0.25


@pytest.mark.parametrize(
    ("deadline_s", "now_s", "missed"),
    [
        pytest.param(12.0, 12.0, 1, id="passed"),
        pytest.param(12.0, 11.0, 0, id="its-caller-left-before"),
        pytest.param(None, 12.0, 0, id="none"),
    ],
)
def test_a_deadline_is_missed_by_what_it_ends(
    metrics: Metrics, version: VersionMetrics, deadline_s: float | None, now_s: float, missed: int
) -> None:
    version.job_stopped(active(deadline_s), now_s)
    assert values(metrics)["deadline_misses_total"] == missed


def test_durations_that_a_worker_tells_are_booked_once(
    metrics: Metrics, version: VersionMetrics
) -> None:
    first = WorkerStats(step_count_by_s=((0.1, 2),), freed_count_by_s=((0.5, 1),))
    then = WorkerStats(
        step_count_by_s=((0.1, 3), (0.4, 1)), freed_count_by_s=((0.5, 1),), apart_row_count=6
    )
    for stats in (first, then, then):
        version.worker_reported(0, stats)
    found = values(metrics)
    assert found["step_seconds_count"] == 4
    assert found["step_seconds_sum"] == pytest.approx(0.7)
    assert (found["cancel_seconds_count"], found["cancel_seconds_sum"]) == (1, 0.5)
    assert found["exact_apart_rows_total"] == 6


def test_what_a_compiled_denoiser_counts_is_booked_once(
    metrics: Metrics, version: VersionMetrics
) -> None:
    first = WorkerStats(recompile_count=1, uncompiled_step_count=4)
    then = WorkerStats(recompile_count=2, uncompiled_step_count=9)
    for stats in (first, then, then):
        version.worker_reported(0, stats)
    found = values(metrics)
    assert found["denoiser_recompiles_total"] == 2
    assert found["denoiser_uncompiled_steps_total"] == 9


def test_how_a_version_is_is_looked_at_before_each_scrape(metrics: Metrics) -> None:
    looks = [VersionLook(state=VersionState.READY, memory_bytes=7, queued_since_s=(1.0, 2.0))]
    one = VersionMetrics(metrics, model="tiny", version=3, look=lambda: looks[-1])
    other = VersionMetrics(metrics, model="tiny", version=3, look=lambda: looks[0])
    found = values(metrics)
    assert (found["queued_requests"], found["model_memory_bytes"]) == (4, 14)
    assert found["oldest_queued_seconds"] > 0
    other.forget()
    looks.append(VersionLook(state=VersionState.UNLOADING, memory_bytes=3, queued_since_s=()))
    found = values(metrics)
    assert (found["queued_requests"], found["oldest_queued_seconds"]) == (0, 0)
    assert found["model_memory_bytes"] == 3
    states = {
        state.value: scraped(metrics)["darkroom_model_state", "tiny", "3", state.value]
        for state in VersionState
    }
    assert states["unloading"] == 1
    assert sum(states.values()) == 1
    one.forget()
    assert values(metrics) == {}


def test_a_swap_is_counted_by_model(metrics: Metrics, version: VersionMetrics) -> None:
    version.swapped()
    assert scraped(metrics)["darkroom_model_swaps_total", "tiny"] == 1


def test_the_states_of_the_list_are_those_of_versions() -> None:
    assert set(STATES.values) == {state.value for state in VersionState}
