"""A job whose worker died goes on in another: the same bytes, and at most three steps twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from darkroom_server.backends.fake import FakeStepModel, FakeTrajectory
from darkroom_server.domain.jobs import JobCompleted, JobEvent, JobImage, JobProgress
from darkroom_server.scheduling.shared_rows import SharedRows
from darkroom_server.worker.checkpoint_file import BLOCK_BYTES, CheckpointFile
from darkroom_server.worker.checkpoints import LARGEST_PART, STEPS_BETWEEN
from darkroom_server.worker.messages import (
    CancelJob,
    EarlierWork,
    ImagesSaved,
    JobReport,
    KeptImage,
    Report,
    SavedImage,
    SubmitJob,
)
from darkroom_server.worker.step_runner import step_loop
from tests.unit.specs import job

STEP_COUNT = 10
NOTHING = EarlierWork()
#: Room for sixteen images of the fake's.
SIZE_BYTES = LARGEST_PART * BLOCK_BYTES


class CountingModel(FakeStepModel):
    """The fake, counting steps by seed, with states of any length, and failing where it is told."""

    def __init__(self, *, state_bytes: int = 8, restores: bool = True) -> None:
        super().__init__()
        self.steps: dict[int, int] = {}
        self._state_bytes = state_bytes
        self._restores = restores

    def scatter(self, trajectory: FakeTrajectory, outputs: list[int], first_row: int) -> None:
        super().scatter(trajectory, outputs, first_row)
        self.steps[trajectory.seed] = self.steps.get(trajectory.seed, 0) + 1

    def snapshot(self, trajectory: FakeTrajectory) -> bytes:
        return super().snapshot(trajectory).rjust(self._state_bytes, b"\0")

    def restore(self, trajectory: FakeTrajectory, state: bytes) -> None:
        super().restore(trajectory, state)
        if not self._restores:
            raise ValueError("no state of this model")


class Worker:
    """A worker's loop in this process, as far as it came; `told` is what the server heard."""

    def __init__(self, file: CheckpointFile | None, model: CountingModel | None = None) -> None:
        self.file = file
        self.model = model or CountingModel()
        self.told: list[Report] = []
        self.is_told = threading.Event()
        self.loop = step_loop(
            self.model,
            self._hear,
            max_batch_size=8,
            shared=SharedRows(is_open=True),
            checkpoints=file,
            clock=lambda: 0.0,
        )

    def _hear(self, report: Report) -> None:
        self.told.append(report)
        if isinstance(report, JobReport) and isinstance(report.event, JobCompleted):
            self.is_told.set()

    def run(self, *commands: SubmitJob | CancelJob, tick_count: int) -> None:
        for command in commands:
            self.loop.post(command)
        for _ in range(tick_count):
            self.loop.tick()

    def saved(self) -> dict[tuple[str, int], SavedImage]:
        told = [
            one for report in self.told if isinstance(report, ImagesSaved) for one in report.images
        ]
        return {(one.job_id, one.image_index): one for one in told}

    def left(self, job_id: str, *made_images: int) -> EarlierWork:
        """What the server knows of a job once this worker is dead."""
        assert self.file is not None
        kept = tuple(
            KeptImage(
                image_index=one.image_index,
                completed_step_count=one.completed_step_count,
                step_count=one.step_count,
                state=self.file.read(one.blocks, one.byte_count),
            )
            for one in self.saved().values()
            if one.job_id == job_id and one.image_index not in made_images
        )
        return EarlierWork(made_images=made_images, step_count=STEP_COUNT, kept=kept)

    def end(self) -> list[JobEvent]:
        self.loop.run_to_end()
        return [report.event for report in self.told if isinstance(report, JobReport)]


@pytest.fixture
def file() -> Iterator[CheckpointFile]:
    made = CheckpointFile.create(SIZE_BYTES)
    yield made
    made.close()


def asked(job_id: str = "a", *, earlier: EarlierWork = NOTHING, **changes: Any) -> SubmitJob:
    fields: dict[str, Any] = {"step_count": STEP_COUNT, "seeds": (7,)} | changes
    return SubmitJob(job(job_id, **fields), True, earlier)


def images(events: list[JobEvent]) -> dict[int, bytes]:
    return {one.image_index: one.content for one in events if isinstance(one, JobImage)}


@pytest.mark.parametrize("tick_count", range(STEP_COUNT))
def test_whenever_it_dies_no_more_than_three_steps_are_done_twice(
    file: CheckpointFile, tick_count: int
) -> None:
    first, undisturbed = Worker(file), Worker(None)
    first.run(asked(), tick_count=tick_count)
    second = Worker(file)
    second.run(asked(earlier=first.left("a")), tick_count=0)
    undisturbed.run(asked(), tick_count=0)
    made, wanted = second.end(), undisturbed.end()
    assert images(made) == images(wanted)
    twice = sum(first.model.steps.values()) + sum(second.model.steps.values()) - STEP_COUNT
    assert twice == tick_count % STEPS_BETWEEN
    first.end()


def test_a_second_death_finds_what_the_first_left(file: CheckpointFile) -> None:
    first, second, third = (Worker(file) for _ in range(3))
    first.run(asked(), tick_count=7)
    second.run(asked(earlier=first.left("a")), tick_count=2)
    assert not second.saved()
    third.run(asked(earlier=first.left("a")), tick_count=0)
    assert len(images(third.end())) == 1
    assert third.model.steps == {7: STEP_COUNT - 6}


def test_the_caller_hears_of_progress_from_where_it_went_on(file: CheckpointFile) -> None:
    first, second = Worker(file), Worker(file)
    first.run(asked(), tick_count=7)
    second.run(asked(earlier=first.left("a")), tick_count=1)
    told = [one.completed_step_count for one in second.end() if isinstance(one, JobProgress)]
    assert next(count for count in told if count) == 7


def test_images_that_are_there_are_not_made_again(file: CheckpointFile) -> None:
    worker = Worker(file)
    earlier = EarlierWork(made_images=(0, 2), step_count=STEP_COUNT)
    worker.run(asked(seeds=(7, 8, 9), earlier=earlier), tick_count=0)
    events = worker.end()
    assert images(events).keys() == {1}
    assert worker.model.steps == {8: STEP_COUNT}
    completed = events[-1]
    assert isinstance(completed, JobCompleted)
    assert completed.image_count == 3


def test_a_job_of_which_only_the_end_was_not_told_ends(file: CheckpointFile) -> None:
    worker = Worker(file)
    earlier = EarlierWork(made_images=(0,), step_count=STEP_COUNT)
    worker.run(asked(earlier=earlier), tick_count=1)
    assert [type(one) for one in worker.end()] == [JobCompleted]
    assert not worker.model.steps


def test_images_of_a_job_go_on_each_from_its_own_place(file: CheckpointFile) -> None:
    first, second = Worker(file), Worker(file)
    first.run(asked(seeds=(7, 8)), tick_count=7)
    earlier = first.left("a")
    second.run(asked(seeds=(7, 8), earlier=earlier), tick_count=0)
    assert len(images(second.end())) == 2
    for seed in (7, 8):
        twice = first.model.steps.get(seed, 0) + second.model.steps.get(seed, 0) - STEP_COUNT
        assert twice <= STEPS_BETWEEN
    first.end()


def test_what_cannot_be_restored_begins_anew(file: CheckpointFile) -> None:
    first, second = Worker(file), Worker(file, CountingModel(restores=False))
    first.run(asked(), tick_count=7)
    second.run(asked(earlier=first.left("a")), tick_count=0)
    undisturbed = Worker(None)
    undisturbed.run(asked(), tick_count=0)
    assert images(second.end()) == images(undisturbed.end())
    assert second.model.steps == {7: STEP_COUNT}


@pytest.mark.parametrize(
    ("state_bytes", "is_kept"),
    [
        pytest.param(BLOCK_BYTES, True, id="a sixteenth of the room"),
        pytest.param(BLOCK_BYTES + 1, False, id="more than a sixteenth"),
    ],
)
def test_one_image_takes_no_more_than_its_part(
    file: CheckpointFile, state_bytes: int, is_kept: bool
) -> None:
    worker = Worker(file, CountingModel(state_bytes=state_bytes))
    worker.run(asked(), tick_count=9)
    assert bool(worker.saved()) == is_kept
    assert len(images(worker.end())) == 1


def test_room_is_bounded_and_given_back_once_an_image_is_sent(file: CheckpointFile) -> None:
    worker = Worker(file, CountingModel(state_bytes=BLOCK_BYTES))
    for number in range(2 * LARGEST_PART):
        worker.is_told.clear()
        worker.run(asked(str(number)), tick_count=STEP_COUNT)
        assert worker.is_told.wait(120)
        assert (str(number), 0) in worker.saved()
    told = [
        one for report in worker.told if isinstance(report, ImagesSaved) for one in report.images
    ]
    assert {block for one in told for block in one.blocks} <= set(range(LARGEST_PART))


def test_a_crowd_beyond_the_room_is_made_all_the_same(file: CheckpointFile) -> None:
    worker = Worker(file, CountingModel(state_bytes=BLOCK_BYTES))
    worker.run(*(asked(str(n), seeds=tuple(range(8))) for n in range(4)), tick_count=0)
    events = worker.end()
    assert sum(isinstance(one, JobImage) for one in events) == 32
    assert sum(isinstance(one, JobCompleted) for one in events) == 4


def test_a_stopped_job_gives_its_room_to_others(file: CheckpointFile) -> None:
    worker = Worker(file, CountingModel(state_bytes=BLOCK_BYTES))
    for number in range(40):
        worker.run(asked(str(number)), tick_count=4)
        assert (str(number), 0) in worker.saved()
        worker.run(CancelJob(str(number)), tick_count=1)


def test_what_was_told_stands_until_something_newer_is_told(file: CheckpointFile) -> None:
    """A worker may die at any write: what the server was told of last is whole all the time."""
    worker = Worker(file)
    written: list[int] = []
    write = file.write

    def watched(blocks: tuple[int, ...], data: bytes) -> None:
        for one in worker.saved().values():
            assert not set(one.blocks) & set(blocks)
        written.extend(blocks)
        write(blocks, data)

    file.write = watched  # type: ignore[method-assign,assignment]
    worker.run(*(asked(str(n), seeds=(n,)) for n in range(4)), tick_count=12)
    assert len(written) > 4


def test_a_full_machine_costs_the_checkpoints_alone(file: CheckpointFile) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    file.write = full  # type: ignore[method-assign,assignment]
    worker = Worker(file)
    worker.run(asked(), tick_count=0)
    assert len(images(worker.end())) == 1
    assert not worker.saved()
