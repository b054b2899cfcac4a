from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from darkroom_server.backends.fake import FAILING_PROMPT, FakeStepModel, FakeTrajectory
from darkroom_server.domain.errors import DeadlineExceeded, GenerationFailed, OutOfDeviceMemory
from darkroom_server.domain.jobs import (
    BatchShare,
    ImageSpec,
    JobCompleted,
    JobImage,
    JobProgress,
    JobQueued,
    Reproducibility,
    Stage,
)
from darkroom_server.worker.messages import CancelJob, JobFailed, JobReport, SubmitJob
from tests.unit.specs import job
from tests.unit.worker.loop_bench import Bench, shared


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.lane.close()


def test_a_job_reports_its_stages_then_its_image_then_its_end(bench: Bench) -> None:
    bench.loop.post(SubmitJob(job(step_count=3, seeds=(10,))))
    bench.ticks(3)
    queued, encode, first, second, third, image, completed = bench.events()
    assert queued == JobQueued(0)
    assert encode == JobProgress(stage=Stage.ENCODE, total_step_count=3)
    assert [first, second, third] == [
        JobProgress(
            stage=Stage.DENOISE,
            completed_step_count=k,
            total_step_count=3,
            batch=BatchShare(batch_id=str(k), batch_image_count=1, request_image_count=1),
        )
        for k in (1, 2, 3)
    ]
    assert isinstance(image, JobImage)
    assert isinstance(completed, JobCompleted)
    pixels = np.asarray(Image.open(io.BytesIO(image.content)))
    assert (image.seed, pixels.shape, set(pixels.flat)) == (10, (8, 16, 3), {13})


def test_images_of_a_job_use_their_own_seeds_and_progress_is_their_mean(
    bench: Bench,
) -> None:
    bench.loop.post(SubmitJob(job(step_count=2, seeds=(10, 20))))
    bench.ticks(4)
    events = bench.events()
    steps = [e.completed_step_count for e in events if isinstance(e, JobProgress)]
    assert steps == [0, 1, 2]
    values = {
        e.image_index: np.asarray(Image.open(io.BytesIO(e.content)))[0, 0, 0]
        for e in events
        if isinstance(e, JobImage)
    }
    assert values == {0: 12, 1: 22}


def test_the_end_tells_how_much_memory_was_taken_and_what_was_not_read() -> None:
    class Telling(FakeStepModel):
        def peak_memory_bytes(self) -> int:
            return 5 << 30

        def cut_fields(self, spec: ImageSpec) -> tuple[str, ...]:
            return ("prompt",) if spec.prompt == "long" else ()

    bench = Bench(Telling())
    bench.loop.post(SubmitJob(job("a", step_count=1, prompt="long")))
    bench.ticks(1)
    completed = bench.events()[-1]
    assert isinstance(completed, JobCompleted)
    assert completed.peak_device_memory_bytes == 5 << 30
    assert completed.cut_fields == ("prompt",)


def test_waiting_jobs_learn_their_place(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        bench.loop.post(SubmitJob(job(name, step_count=1)))
    bench.ticks(3)
    places = [event for event in bench.events("c") if isinstance(event, JobQueued)]
    assert [event.ahead_count for event in places] == [2, 1, 0]


def test_a_cancelled_job_takes_no_further_step_and_says_nothing(bench: Bench) -> None:
    bench.loop.post(SubmitJob(job("a", step_count=50)))
    bench.ticks(2)
    bench.loop.post(CancelJob("a"))
    bench.loop.post(SubmitJob(job("b", step_count=1)))
    said = len(bench.reports)
    bench.ticks(1)
    assert not [r for r in bench.reports[said:] if isinstance(r, JobReport) and r.job_id == "a"]
    assert isinstance(bench.events("b")[-1], JobCompleted)


@pytest.mark.parametrize("steps_before", [0, 1], ids=["waiting", "running"])
def test_a_late_job_fails_of_its_deadline(bench: Bench, steps_before: int) -> None:
    bench.loop.post(SubmitJob(job("a", step_count=50, deadline_s=101.0)))
    bench.ticks(steps_before)
    bench.clock.now_s = 101.0
    bench.ticks(1)
    assert bench.failures() == {"a": DeadlineExceeded}


def test_a_failing_job_fails_alone(bench: Bench) -> None:
    bench.loop.post(SubmitJob(job("a", prompt=FAILING_PROMPT)))
    bench.loop.post(SubmitJob(job("b", step_count=1)))
    bench.ticks(3)
    assert bench.failures() == {"a": GenerationFailed}
    assert isinstance(bench.events("b")[-1], JobCompleted)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        pytest.param(RuntimeError("/secret/path"), GenerationFailed, id="bug"),
        pytest.param(MemoryError(), OutOfDeviceMemory, id="out-of-memory"),
        pytest.param(
            type("OutOfMemoryError", (RuntimeError,), {})(), OutOfDeviceMemory, id="torch-oom"
        ),
    ],
)
def test_an_unexpected_failure_is_told_in_safe_words(
    raised: Exception, expected: type[Exception]
) -> None:
    class Broken(FakeStepModel):
        def denoise(self, inputs: object) -> list[int]:  # noqa: ARG002
            raise raised

    bench = Bench(Broken())
    bench.loop.post(SubmitJob(job("a")))
    bench.ticks(1)
    assert bench.failures() == {"a": expected}
    failed = next(r for r in bench.reports if isinstance(r, JobFailed))
    assert "secret" not in str(failed.error)
    bench.lane.close()


class Watched(FakeStepModel):
    """Counts the rows of every evaluation, and runs out of memory above a number of them."""

    def __init__(self, *, memory_rows: int = 100) -> None:
        super().__init__()
        self.memory_rows = memory_rows
        self.rows_taken: list[int] = []

    def denoise(self, inputs: list[FakeTrajectory]) -> list[int]:
        if len(inputs) > self.memory_rows:
            raise MemoryError
        made = super().denoise(inputs)
        self.rows_taken.append(len(inputs))
        return made


def finished(bench: Bench, *names: str) -> bool:
    return all(isinstance(bench.events(name)[-1], JobCompleted) for name in names)


def test_requests_share_steps_when_they_may() -> None:
    model = Watched()
    bench = Bench(model)
    bench.loop.post(shared("a", step_count=2))
    bench.loop.post(shared("b", step_count=3, seeds=(50,)))
    bench.ticks(3)
    assert model.rows_taken == [2, 2, 1]
    assert finished(bench, "a", "b")


def test_exact_requests_share_nothing_before_it_is_proved() -> None:
    model = Watched()
    bench = Bench(model)
    for name in ("a", "b"):
        bench.loop.post(shared(name, step_count=2, reproducibility=Reproducibility.EXACT))
    bench.ticks(4)
    assert model.rows_taken == [1, 1, 1, 1]
    assert finished(bench, "a", "b")


def test_out_of_memory_bounds_the_steps_of_its_size_alone() -> None:
    class SmallMemory(Watched):
        def denoise(self, inputs: list[FakeTrajectory]) -> list[int]:
            if inputs[0].spec.width_px == 32 and len(inputs) > 1:
                raise MemoryError
            return super().denoise(inputs)

    model = SmallMemory()
    bench = Bench(model)
    for name in ("a", "b"):
        bench.loop.post(shared(name, step_count=1, width_px=32))
    bench.ticks(1)
    for name in ("c", "d"):
        bench.loop.post(shared(name, step_count=1))
    bench.ticks(1)
    assert model.rows_taken == [1, 1, 2]
    assert finished(bench, "a", "b", "c", "d")


def test_only_the_guilty_one_of_a_batch_fails() -> None:
    bench = Bench()
    for name in ("a", "b", "c"):
        bench.loop.post(shared(name, step_count=1))
    bench.loop.post(shared("bad", step_count=1, prompt=FAILING_PROMPT))
    bench.ticks(2)
    assert finished(bench, "a", "b", "c")
    assert bench.failures() == {"bad": GenerationFailed}


def test_out_of_memory_makes_batches_smaller_and_fails_nobody() -> None:
    model = Watched(memory_rows=2)
    bench = Bench(model)
    for name in ("a", "b", "c", "d"):
        bench.loop.post(shared(name, step_count=2))
    bench.ticks(8)
    assert finished(bench, "a", "b", "c", "d")
    assert set(model.rows_taken) == {2}
    assert bench.failures() == {}


def test_a_job_that_cannot_begin_fails_without_its_neighbours() -> None:
    class Unbeginnable(FakeStepModel):
        def begin(self, spec: ImageSpec, encoded: None, image_index: int) -> FakeTrajectory:
            if spec.prompt == "bad" and image_index == 1:
                raise RuntimeError
            return super().begin(spec, encoded, image_index)

    bench = Bench(Unbeginnable())
    bench.loop.post(shared("bad", prompt="bad", seeds=(1, 2)))
    bench.loop.post(shared("a", step_count=1))
    bench.ticks(1)
    assert bench.failures() == {"bad": GenerationFailed}
    assert finished(bench, "a")
