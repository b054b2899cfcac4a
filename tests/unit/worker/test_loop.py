"""What holds for every job, whether its model is run step by step or a request at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise

import pytest

from darkroom_server.backends.fake import FAILING_PROMPT, POISONING_PROMPT
from darkroom_server.domain.errors import DeadlineExceeded, GenerationFailed, OutOfDeviceMemory
from darkroom_server.domain.jobs import (
    JobPreview,
    JobProgress,
    JobQueued,
    PreviewSpec,
    Stage,
)
from darkroom_server.worker.failures import DeviceLost
from darkroom_server.worker.jobs import MAX_REPORTED_POSITIONS, PROGRESS_INTERVAL_S
from darkroom_server.worker.messages import CancelJob, JobFailed, StopWorker
from tests.unit.worker.runner_bench import (
    RequestBench,
    RunnerBench,
    StepBench,
    alone,
    together,
)
from tests.unit.worker.window_bench import STEP_S

Made = Callable[..., RunnerBench]

pytestmark = pytest.mark.parametrize(
    "made",
    [pytest.param(StepBench, id="steps"), pytest.param(RequestBench, id="whole-requests")],
)


def progress(bench: RunnerBench, name: str) -> list[tuple[Stage, int]]:
    return [
        (event.stage, event.completed_step_count)
        for event in bench.events(name)
        if isinstance(event, JobProgress)
    ]


def positions(bench: RunnerBench, name: str) -> list[int]:
    return [event.ahead_count for event in bench.events(name) if isinstance(event, JobQueued)]


def test_a_job_is_queued_begins_advances_and_gets_its_images(made: Made) -> None:
    bench = made()
    bench.loop.post(together("a", step_count=3, seeds=(10, 20)))
    bench.finish()
    assert positions(bench, "a") == [0]
    denoised = [(Stage.DENOISE, done) for done in (1, 2, 3)]
    assert progress(bench, "a") == [(Stage.ENCODE, 0), *denoised]
    assert bench.values("a") == {0: 13, 1: 23}
    assert bench.completed("a")
    assert bench.step_count == 3


def test_what_is_cancelled_before_it_begins_takes_no_step(made: Made) -> None:
    bench = made()
    bench.loop.post(alone("a"))
    bench.loop.post(alone("b", step_count=2))
    bench.loop.post(CancelJob("a"))
    bench.finish()
    assert bench.step_count == 2
    assert (len(bench.events("a")), bench.failures()) == (1, {})
    assert bench.completed("b")


def test_what_is_cancelled_within_says_no_more_and_its_neighbour_gets_its_image(made: Made) -> None:
    bench = made()
    said: list[int] = []

    def cancel(step: int) -> None:
        if step == 2:
            said.append(len(bench.events_now("a")))
            bench.loop.post(CancelJob("a"))

    bench.during(cancel)
    bench.loop.post(together("a", step_count=4))
    bench.loop.post(together("b", step_count=4))
    bench.finish()
    assert len(bench.events("a")) == said[0]
    assert (bench.completed("b"), bench.failures()) == (True, {})
    assert bench.step_count == 4


def test_a_model_stops_at_the_next_step_when_nobody_waits_any_more(made: Made) -> None:
    bench = made()

    def cancel(step: int) -> None:
        if step == 2:
            bench.loop.post(CancelJob("a"))
            bench.loop.post(CancelJob("b"))

    bench.during(cancel)
    bench.loop.post(together("a", step_count=50))
    bench.loop.post(together("b", step_count=50))
    bench.finish()
    assert (bench.step_count, bench.failures()) == (2, {})


def test_what_is_cancelled_after_its_end_or_never_was_changes_nothing(made: Made) -> None:
    bench = made()
    bench.loop.post(together("a"))
    bench.finish()
    bench.loop.post(CancelJob("a"))
    bench.loop.post(CancelJob("nobody"))
    bench.finish()
    assert (bench.completed("a"), bench.failures()) == (True, {})


@pytest.mark.parametrize("steps", [0, 2], ids=["waiting", "running"])
def test_a_late_job_fails_of_its_deadline_at_the_next_step(made: Made, steps: int) -> None:
    bench = made()
    bench.loop.post(alone("a", step_count=50, deadline_s=bench.clock() + steps * STEP_S))
    bench.finish()
    assert (bench.failures(), bench.step_count) == ({"a": DeadlineExceeded}, steps)


def test_what_fails_fails_alone(made: Made) -> None:
    bench = made()
    for name in ("a", "b"):
        bench.loop.post(together(name))
    bench.loop.post(together("bad", prompt=FAILING_PROMPT))
    bench.finish()
    assert (bench.completed("a", "b"), bench.failures()) == (True, {"bad": GenerationFailed})


def test_where_memory_runs_out_batches_become_smaller_and_nobody_fails(made: Made) -> None:
    bench = made(memory_images=2)
    for name in ("a", "b", "c", "d"):
        bench.loop.post(together(name, step_count=2))
    bench.finish()
    assert (bench.completed("a", "b", "c", "d"), bench.failures()) == (True, {})
    assert bench.step_count == 4


def test_an_image_for_which_memory_never_suffices_fails(made: Made) -> None:
    bench = made(memory_images=0)
    bench.loop.post(together("a"))
    bench.finish()
    assert bench.failures() == {"a": OutOfDeviceMemory}


def test_a_lost_device_ends_the_loop_and_leaves_the_jobs_to_run_again(made: Made) -> None:
    bench = made()
    bench.loop.post(together("a", prompt=POISONING_PROMPT))
    bench.loop.post(together("b"))
    with pytest.raises(DeviceLost):
        bench.finish()
    assert not [report for report in bench.reports if isinstance(report, JobFailed)]


def test_a_worker_that_is_to_stop_leaves_at_the_next_step_and_fails_nobody(made: Made) -> None:
    bench = made()
    bench.during(lambda step: bench.loop.post(StopWorker()) if step == 3 else None)
    thread = threading.Thread(target=bench.loop.run)
    thread.start()
    bench.loop.post(together("a", step_count=50))
    thread.join(60)
    assert not thread.is_alive()
    assert (bench.step_count, bench.failures()) == (3, {})


def test_jobs_near_the_front_hear_of_their_position_and_how_long_it_takes(made: Made) -> None:
    bench = made()
    names = [f"j{number}" for number in range(MAX_REPORTED_POSITIONS + 8)]
    for name in names:
        bench.loop.post(alone(name, step_count=1))
    bench.loop.tick()
    bench.loop.tick()
    assert positions(bench, "j5") == [5, 4]
    # The first took a step's time; the sixth is done after five more.
    first, second = bench.queued("j5")
    assert first[1].estimated_s is None
    assert second[1].estimated_s == pytest.approx(bench.begun_s + 6 * STEP_S - second[0])
    assert positions(bench, names[MAX_REPORTED_POSITIONS]) == [32, 31]
    assert positions(bench, names[-1]) == [len(names) - 1]


def test_positions_are_told_a_few_times_a_second(made: Made) -> None:
    bench = made(step_s=0.1)
    for number in range(10):
        bench.loop.post(alone(f"j{number}", step_count=1))
    for _ in range(8):
        bench.loop.tick()
    at_s = [told_s for told_s, _ in bench.queued("j9")]
    assert len(at_s) >= 3
    assert all(later - sooner > 0.25 - 1e-9 for sooner, later in pairwise(at_s[1:]))


def test_progress_comes_a_few_times_a_second_and_the_last_step_always(made: Made) -> None:
    bench = made(step_s=PROGRESS_INTERVAL_S / 4)
    bench.loop.post(together("a", step_count=50))
    bench.finish()
    reported = [done for stage, done in progress(bench, "a") if stage is Stage.DENOISE]
    assert reported[-1] == 50
    assert 10 <= len(reported) <= 15


def test_previews_come_where_the_model_can_paint_them_and_cost_nothing_elsewhere(
    made: Made,
) -> None:
    bench = made()
    preview = PreviewSpec(interval_step_count=2)
    bench.loop.post(together("a", step_count=5, preview=preview))
    bench.finish()
    painted = [e.completed_step_count for e in bench.events("a") if isinstance(e, JobPreview)]
    assert painted == ([2, 4] if bench.paints_previews else [])
    assert bench.completed("a")
