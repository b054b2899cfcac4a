from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from darkroom_server.backends.base import ImageArray
from darkroom_server.backends.fake import FakeStepModel, FakeTrajectory
from darkroom_server.domain.errors import DeadlineExceeded, QueueFull
from darkroom_server.domain.jobs import ImageSpec, JobQueued
from darkroom_server.scheduling.step_costs import StepCosts
from darkroom_server.worker.messages import CancelJob, JobFailed, JobReport, StopWorker, WorkerStats
from tests.unit.worker.loop_bench import MAX_BATCH_SIZE, Bench, Clock, shared

KEY = ((16, 8), False)


def second_long_steps() -> Bench:
    """A loop whose steps are known to take a second, however many rows they have."""
    costs = StepCosts(max_rows=MAX_BATCH_SIZE)
    for rows in (1, 2, 4):
        costs.learn(KEY, rows, 1.0)
    return Bench(costs=costs)


def estimates(bench: Bench, name: str) -> list[float | None]:
    return [event.estimated_s for event in bench.events(name) if isinstance(event, JobQueued)]


def test_every_job_is_told_its_place_and_when_it_will_be_done() -> None:
    bench = second_long_steps()
    for name in ("a", "b", "c", "d", "e"):
        bench.loop.post(shared(name, step_count=8))
    assert estimates(bench, "a") == [8.0]
    # Four share every step; the fifth begins when they are done.
    assert estimates(bench, "e") == [16.0]


def test_without_measurements_nothing_is_promised_or_refused() -> None:
    bench = Bench()
    bench.loop.post(shared("a", step_count=500, deadline_s=bench.clock() + 0.001))
    assert estimates(bench, "a") == [None]
    assert bench.failures() == {}


@pytest.mark.parametrize(
    ("within_s", "is_refused"), [pytest.param(17.0, True), pytest.param(18.0, False)]
)
def test_what_cannot_make_its_deadline_behind_the_others_is_refused_at_once(
    within_s: float, is_refused: bool
) -> None:
    bench = second_long_steps()
    for name in ("a", "b", "c", "d"):
        bench.loop.post(shared(name, step_count=8, deadline_s=bench.clock() + 9.0))
    bench.loop.post(shared("e", step_count=8, deadline_s=bench.clock() + within_s))
    assert bench.failures() == ({"e": DeadlineExceeded} if is_refused else {})
    if is_refused:
        refusal = next(r for r in bench.reports if isinstance(r, JobFailed))
        # Everything may take a tenth longer than foreseen.
        assert "about 17.6 s" in str(refusal.error)


@pytest.mark.parametrize(
    ("within_s", "is_refused"), [pytest.param(1.9, True), pytest.param(2.1, False)]
)
def test_an_idle_device_is_tried_unless_the_estimate_is_far_off(
    within_s: float, is_refused: bool
) -> None:
    bench = second_long_steps()
    bench.loop.post(shared("a", step_count=8, deadline_s=bench.clock() + within_s))
    assert bench.failures() == ({"a": DeadlineExceeded} if is_refused else {})


def full_until(bench: Bench, within_s: float) -> None:
    """Fills every row for the next eight seconds."""
    for name in ("a", "b", "c", "d"):
        bench.loop.post(shared(name, step_count=8, deadline_s=bench.clock() + within_s))


@pytest.mark.parametrize(
    ("within_s", "is_refused"), [pytest.param(9.0, True), pytest.param(12.0, False)]
)
def test_what_would_make_others_miss_their_deadline_is_refused(
    within_s: float, is_refused: bool
) -> None:
    bench = second_long_steps()
    full_until(bench, within_s)
    bench.loop.post(shared("e", step_count=1, deadline_s=bench.clock() + 3.0))
    assert bench.failures() == ({"e": QueueFull} if is_refused else {})
    if is_refused:
        refusal = next(r.error for r in bench.reports if isinstance(r, JobFailed))
        assert isinstance(refusal, QueueFull)
        assert refusal.retry_after_s == within_s


def test_what_was_accepted_is_not_refused_for_others_when_it_runs_again() -> None:
    bench = second_long_steps()
    full_until(bench, 9.0)
    again = shared("e", step_count=1, deadline_s=bench.clock() + 3.0)
    bench.loop.post(replace(again, is_promised=True))
    assert bench.failures() == {}


def test_one_without_a_deadline_waits_for_those_that_have_one() -> None:
    bench = second_long_steps()
    for name in ("a", "b", "c", "d"):
        bench.loop.post(shared(name, step_count=500, deadline_s=bench.clock() + 552.0))
    bench.loop.post(shared("e", step_count=3))
    assert bench.failures() == {}
    assert bench.events("e") == [JobQueued(4, estimated_s=503.0, likely_within_s=1006.0)]


def test_beginning_and_decoding_are_part_of_the_estimate() -> None:
    clock = Clock()

    class Slow(FakeStepModel):
        def begin(self, spec: ImageSpec, encoded: None, image_index: int) -> FakeTrajectory:
            clock.now_s += 0.5
            return super().begin(spec, encoded, image_index)

        def denoise(self, inputs: list[FakeTrajectory]) -> list[int]:
            clock.now_s += 1.0
            return super().denoise(inputs)

        def decode(self, trajectory: FakeTrajectory) -> ImageArray:
            clock.now_s += 2.0
            return super().decode(trajectory)

    bench = Bench(Slow(), clock=clock)
    bench.loop.post(shared("a", step_count=1))
    bench.ticks(1)
    bench.loop.post(shared("b", step_count=2))
    assert estimates(bench, "b") == [4.5]


def test_the_first_step_of_a_shape_tells_nothing_of_its_cost() -> None:
    """Libraries prepare themselves in it, which no later one does."""
    clock, known = Clock(), StepCosts(max_rows=MAX_BATCH_SIZE)
    known.learn(KEY, 1, 1.0)

    class Warming(FakeStepModel):
        def denoise(self, inputs: list[FakeTrajectory]) -> list[int]:
            clock.now_s += 2.0
            return super().denoise(inputs)

    bench = Bench(Warming(), costs=known, clock=clock)
    bench.loop.post(shared("a", step_count=3))
    bench.ticks(1)
    assert known.step_s(KEY, 1) == 1.0
    bench.ticks(1)
    assert known.step_s(KEY, 1) == pytest.approx(1.0 + 0.2 * 1.0)


def test_jobs_are_admitted_and_cancelled_while_a_step_runs() -> None:
    step_runs, may_end = threading.Event(), threading.Event()

    class Held(FakeStepModel):
        def denoise(self, inputs: list[FakeTrajectory]) -> list[int]:
            step_runs.set()
            may_end.wait(300)
            return super().denoise(inputs)

    bench = Bench(Held())
    loop = threading.Thread(target=bench.loop.run)
    loop.start()
    bench.loop.post(shared("a", step_count=1))
    assert step_runs.wait(300)
    bench.loop.post(shared("b", step_count=1))
    told = [r for r in bench.reports if isinstance(r, JobReport) and r.job_id == "b"]
    assert [report.event for report in told] == [JobQueued(1)]
    bench.loop.post(CancelJob("b"))
    bench.loop.post(CancelJob("a"))
    said = len(bench.reports)
    bench.loop.post(StopWorker())
    may_end.set()
    loop.join(300)
    assert not loop.is_alive()
    # The step that ran is counted, and nothing more is said of the jobs.
    assert [r for r in bench.reports[said:] if not isinstance(r, WorkerStats)] == []


def test_a_request_that_no_shape_can_be_told_of_fails_alone() -> None:
    class Shapeless(FakeStepModel):
        def evaluations(self, spec: ImageSpec) -> int:
            raise ValueError(spec)

    bench = Bench(Shapeless())
    bench.loop.post(shared("a"))
    assert set(bench.failures()) == {"a"}
