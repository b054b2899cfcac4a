from __future__ import annotations

import io
import threading
from typing import Any

import numpy as np
import pytest
from PIL import Image

from darkroom_server.backends.base import RequestModel
from darkroom_server.backends.fake import FAILING_PROMPT, FakeStepModel
from darkroom_server.domain.dynamic_batching import DynamicBatching, QueuePolicy
from darkroom_server.domain.errors import (
    DeadlineExceeded,
    GenerationFailed,
    OutOfDeviceMemory,
    QueueFull,
    UnsupportedParameter,
)
from darkroom_server.domain.jobs import (
    JobCompleted,
    JobImage,
    JobProgress,
    JobQueued,
    Priority,
    Reproducibility,
    Stage,
)
from darkroom_server.worker.messages import CancelJob, JobFailed, StopWorker, WorkerStats
from tests.unit.worker.loop_bench import shared
from tests.unit.worker.window_bench import STEP_S, WindowBench


def named(name: str, **changes: Any) -> Any:
    """A job that may run with others, and whose prompt is its name."""
    return shared(name, **({"prompt": name} | changes))


def values(bench: WindowBench, name: str) -> dict[int, int]:
    """The value of all bytes of each image of a job."""
    return {
        event.image_index: np.asarray(Image.open(io.BytesIO(event.content)))[0, 0, 0]
        for event in bench.events(name)
        if isinstance(event, JobImage)
    }


def finished(bench: WindowBench, *names: str) -> bool:
    return all(isinstance(bench.events(name)[-1], JobCompleted) for name in names)


def test_the_worker_tells_the_two_kinds_of_models_apart() -> None:
    assert isinstance(WindowBench().model, RequestModel)
    assert not isinstance(FakeStepModel(), RequestModel)


def test_a_job_reports_its_stages_then_its_image_then_its_end() -> None:
    bench = WindowBench()
    bench.loop.post(named("a", step_count=2, seeds=(10,)))
    bench.ticks(1)
    queued, encode, first, second, image, completed = bench.events()
    assert queued == JobQueued(0)
    assert encode == JobProgress(stage=Stage.ENCODE, total_step_count=2)
    assert [first, second] == [
        JobProgress(stage=Stage.DENOISE, completed_step_count=k, total_step_count=2) for k in (1, 2)
    ]
    assert isinstance(image, JobImage)
    assert image.seed == 10
    assert values(bench, "a") == {0: 12}
    assert isinstance(completed, JobCompleted)
    assert completed.timings.denoise_s == 2 * STEP_S


def test_requests_that_are_alike_run_together_and_each_gets_its_own_images() -> None:
    bench = WindowBench()
    bench.loop.post(named("a", seeds=(10, 20)))
    bench.loop.post(named("b", seeds=(30,)))
    bench.loop.post(named("wide", width_px=32))
    bench.ticks(2)
    assert bench.model.runs == [["a", "a", "b"], ["wide"]]
    assert (values(bench, "a"), values(bench, "b")) == ({0: 13, 1: 23}, {0: 33})
    steps = [e.completed_step_count for e in bench.events("a") if isinstance(e, JobProgress)]
    assert steps == [0, 1, 2, 3]
    completed = bench.events("a")[-1]
    assert isinstance(completed, JobCompleted)
    assert completed.batch is not None
    share = completed.batch
    assert (share.batch_id, share.batch_image_count, share.request_image_count) == ("1", 3, 2)


@pytest.mark.parametrize("level", [Reproducibility.EXACT])
def test_images_whose_bytes_must_not_depend_on_others_run_one_by_one(
    level: Reproducibility,
) -> None:
    bench = WindowBench()
    bench.loop.post(named("a", seeds=(10, 20), reproducibility=level))
    bench.loop.post(named("b", reproducibility=level))
    bench.ticks(3)
    assert bench.model.runs == [["a"], ["a"], ["b"]]
    assert finished(bench, "a", "b")
    steps = [e.completed_step_count for e in bench.events("a") if isinstance(e, JobProgress)]
    assert steps == [0, 1, 2, 3]


def test_a_job_waits_for_others_no_longer_than_the_delay() -> None:
    bench = WindowBench(batching=DynamicBatching(max_queue_delay_s=2.0))
    bench.loop.post(named("a"))
    bench.ticks(1)
    bench.clock.now_s += 1.0
    bench.loop.post(named("b"))
    bench.ticks(1)
    assert bench.model.runs == []
    bench.clock.now_s += 1.0
    bench.ticks(1)
    assert bench.model.runs == [["a", "b"]]


@pytest.mark.parametrize(
    ("within_s", "is_refused"),
    [pytest.param(3.9, True, id="too-soon"), pytest.param(4.1, False, id="in-time")],
)
def test_what_cannot_meet_its_deadline_behind_what_waits_is_refused_with_an_estimate(
    within_s: float, is_refused: bool
) -> None:
    bench = WindowBench()
    bench.loop.post(named("first", step_count=4))
    bench.ticks(1)
    for name in ("a", "b"):
        bench.loop.post(
            named(
                name,
                step_count=4,
                deadline_s=bench.clock() + (60 if name == "a" else within_s),
                reproducibility=Reproducibility.EXACT,
                priority=Priority.HIGH if name == "a" else Priority.NORMAL,
            )
        )
    assert bench.failures() == ({"b": DeadlineExceeded} if is_refused else {})
    (queued,) = [event for event in bench.events("a") if isinstance(event, JobQueued)]
    assert queued.estimated_s == pytest.approx(4 * STEP_S)
    if is_refused:
        (failed,) = [r for r in bench.reports if isinstance(r, JobFailed)]
        assert "about 4 s, waiting included" in str(failed.error)


def test_the_queue_policy_turns_away_what_is_too_many_and_what_waited_too_long() -> None:
    policy = QueuePolicy(timeout_s=1.0, max_queue_size=2)
    bench = WindowBench(batching=DynamicBatching(default_queue_policy=policy))
    for name in ("a", "b", "c"):
        bench.loop.post(named(name, reproducibility=Reproducibility.EXACT))
    assert bench.failures() == {"c": QueueFull}
    bench.ticks(2)
    # While the first ran for 1.5 s, the second waited too long.
    assert bench.model.runs == [["a"]]
    assert bench.failures() == {"b": QueueFull, "c": QueueFull}
    assert all(r.error.retry_after_s > 0 for r in bench.reports if isinstance(r, JobFailed))


def test_waiting_jobs_learn_their_place() -> None:
    bench = WindowBench()
    for name in ("a", "b", "c"):
        bench.loop.post(named(name, reproducibility=Reproducibility.EXACT))
    bench.ticks(3)
    places = [event for event in bench.events("c") if isinstance(event, JobQueued)]
    assert [event.ahead_count for event in places] == [2, 1]


def test_a_cancelled_request_gets_nothing_and_the_others_their_images() -> None:
    bench = WindowBench()
    said: list[int] = []

    def cancel(step: int) -> None:
        if step == 2:
            bench.loop.post(CancelJob("a"))
            said.append(len(bench.reports))

    bench.model.during = cancel
    bench.loop.post(named("a"))
    bench.loop.post(named("b"))
    bench.ticks(1)
    assert bench.model.step_counts == [3]
    assert finished(bench, "b")
    after = [r for r in bench.reports[said[0] :] if not isinstance(r, WorkerStats)]
    assert not [report for report in after if report.job_id == "a"]


def test_a_run_that_nobody_waits_for_stops_at_its_next_step() -> None:
    bench = WindowBench()

    def cancel(step: int) -> None:
        if step == 2:
            bench.loop.post(CancelJob("a"))
            bench.loop.post(CancelJob("b"))

    bench.model.during = cancel
    bench.loop.post(named("a", step_count=50))
    bench.loop.post(named("b", step_count=50))
    bench.ticks(2)
    assert bench.model.step_counts == [2]
    assert bench.failures() == {}


@pytest.mark.parametrize(
    ("within_s", "step_counts"),
    [pytest.param(0.0, [], id="waiting"), pytest.param(2 * STEP_S, [2], id="running")],
)
def test_a_late_job_fails_of_its_deadline(within_s: float, step_counts: list[int]) -> None:
    bench = WindowBench()
    bench.loop.post(named("a", step_count=50, deadline_s=bench.clock() + within_s))
    bench.ticks(1)
    assert bench.failures() == {"a": DeadlineExceeded}
    assert bench.model.step_counts == step_counts


def test_only_the_guilty_one_of_a_run_fails() -> None:
    bench = WindowBench()
    for name in ("a", "b"):
        bench.loop.post(named(name))
    bench.loop.post(named("bad", prompt=FAILING_PROMPT, seeds=(1, 2)))
    bench.ticks(2)
    assert finished(bench, "a", "b")
    assert bench.failures() == {"bad": GenerationFailed}


def test_out_of_memory_makes_runs_smaller_and_fails_nobody() -> None:
    bench = WindowBench(memory_images=2)
    bench.loop.post(named("a", seeds=(1, 2, 3)))
    bench.loop.post(named("b"))
    bench.ticks(1)
    assert bench.model.runs == [["a", "a"], ["a", "b"]]
    for name in ("c", "d", "e"):
        bench.loop.post(named(name))
    bench.ticks(2)
    assert bench.model.runs[2:] == [["c", "d"], ["e"]]
    assert values(bench, "a") == {0: 4, 1: 5, 2: 6}
    assert bench.failures() == {}


def test_one_image_that_does_not_fit_alone_fails() -> None:
    bench = WindowBench(memory_images=0)
    bench.loop.post(named("a"))
    bench.ticks(2)
    assert bench.failures() == {"a": OutOfDeviceMemory}


def test_what_the_pipeline_cannot_honour_is_refused_at_once() -> None:
    bench = WindowBench()
    bench.loop.post(named("a", negative_prompt="blue"))
    assert bench.failures() == {"a": UnsupportedParameter}


def test_a_worker_that_is_to_stop_leaves_at_the_next_step() -> None:
    bench = WindowBench()
    runs = threading.Event()

    def stop(step: int) -> None:
        if step == 3:
            runs.set()
            bench.loop.post(StopWorker())

    bench.model.during = stop
    loop = threading.Thread(target=bench.loop.run)
    loop.start()
    bench.loop.post(named("a", step_count=50))
    assert runs.wait(300)
    loop.join(300)
    assert not loop.is_alive()
    assert bench.model.step_counts == [3]
    assert bench.failures() == {}
