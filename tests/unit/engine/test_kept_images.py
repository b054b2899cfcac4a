"""What the server takes over of a dead worker, and how often a job may see one die."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from darkroom_server.domain.jobs import JobProgress, Stage
from darkroom_server.domain.models import Placement, VersionInfo
from darkroom_server.engine.active_job import MAX_JOB_ATTEMPTS, MAX_JOB_DEATHS, ActiveJob
from darkroom_server.engine.kept_images import KeptImages
from darkroom_server.engine.stream import JobStream
from darkroom_server.worker.checkpoint_file import BLOCK_BYTES, CheckpointFile
from darkroom_server.worker.messages import (
    EarlierWork,
    ImagesSaved,
    KeptImage,
    SavedImage,
    WorkerSpec,
)
from tests.unit.example_models import SDXL
from tests.unit.specs import job

VERSION = VersionInfo(model=SDXL, version=1, path=Path("unused"), digest="ab" * 32, weight_bytes=0)
SPEC = WorkerSpec(version=VERSION, thread_count=1, placement=Placement(), prompt_cache_bytes=0)
SIZE_BYTES = 4 * BLOCK_BYTES


def active(job_id: str = "a", **changes: Any) -> ActiveJob:
    one = ActiveJob(job(job_id, **changes), JobStream(), 0.0)
    one.give(0.0)
    return one


def saved(job_id: str = "a", index: int = 0, *, steps: int = 3, **where: Any) -> SavedImage:
    place: dict[str, Any] = {"byte_count": 5, "blocks": (0,)} | where
    return SavedImage(
        job_id=job_id, image_index=index, completed_step_count=steps, step_count=10, **place
    )


@pytest.fixture
def kept_images() -> Iterator[KeptImages]:
    made = KeptImages(SIZE_BYTES)
    yield made
    made.close()


def file_of(kept_images: KeptImages) -> CheckpointFile:
    file = kept_images.given_to(SPEC).checkpoints
    assert file is not None
    return file


async def test_what_a_worker_left_goes_to_the_next_with_the_job(kept_images: KeptImages) -> None:
    one, file = active(), file_of(kept_images)
    state = bytes(range(256)) * 300  # more than a block
    file.write((2, 0), state)
    told = saved(byte_count=len(state), blocks=(2, 0))
    kept_images.note(ImagesSaved((told, saved("gone"))), {"a": one})
    await kept_images.take_over([one])
    file.write((0, 2), b"\0" * len(state))
    assert one.earlier().kept == (
        KeptImage(image_index=0, completed_step_count=3, step_count=10, state=state),
    )
    # Once only: the next worker writes over it.
    await kept_images.take_over([one])
    assert one.earlier().kept[0].state == state


async def test_every_worker_of_a_seat_gets_the_same_memory(kept_images: KeptImages) -> None:
    assert file_of(kept_images) is file_of(kept_images)


async def test_without_room_nothing_is_kept() -> None:
    kept_images, one = KeptImages(0), active()
    assert kept_images.given_to(SPEC).checkpoints is None
    await kept_images.take_over([one])
    assert one.earlier() == EarlierWork()


async def test_no_more_is_taken_over_than_the_room(kept_images: KeptImages) -> None:
    jobs = [active(name) for name in "abc"]
    file_of(kept_images).write((0, 1), b"x" * (SIZE_BYTES // 2))
    for one in jobs:
        one.saved(saved(one.job.job_id, byte_count=SIZE_BYTES // 2, blocks=(0, 1)))
    await kept_images.take_over(jobs)
    assert [len(one.earlier().kept) for one in jobs] == [1, 1, 0]
    # Nor beside what waits from before.
    jobs[2].saved(saved("c", byte_count=1))
    await kept_images.take_over(jobs)
    assert not jobs[2].earlier().kept


def test_images_that_are_made_need_no_state() -> None:
    one = active(seeds=(1, 2))
    one.stream.put(JobProgress(stage=Stage.DENOISE, completed_step_count=4, total_step_count=8))
    one.saved(saved(index=0))
    one.made(0)
    one.saved(saved(index=0))
    assert one.left_behind() == []
    assert one.earlier() == EarlierWork(made_images=(0,), step_count=8)


@pytest.mark.parametrize(
    ("lives", "is_suspected"),
    [
        pytest.param("xx", False, id="twice"),
        pytest.param("xxx", True, id="three times without coming further"),
        pytest.param("sxsxsxsx", False, id="further each time"),
        pytest.param("sxxx", True, id="further once, then three deaths in all"),
        pytest.param("xxsxx", False, id="further in between"),
        pytest.param("mxmxmx", False, id="an image made each time"),
        pytest.param("sx" * (MAX_JOB_DEATHS - 1), False, id="further nine times"),
        pytest.param("sx" * MAX_JOB_DEATHS, True, id="further ten times"),
    ],
)
def test_a_job_is_held_to_be_the_cause(lives: str, is_suspected: bool) -> None:
    """x: the worker died, s: it kept an image, m: it made one."""
    assert MAX_JOB_ATTEMPTS == 3
    one = active(seeds=tuple(range(9)))
    for place, event in enumerate(lives):
        if event == "s":
            one.saved(saved(steps=place))
        elif event == "m":
            one.made(place)
        else:
            one.died()
            one.give(0.0)
    assert one.is_suspected == is_suspected


def test_memory_that_cannot_be_had_is_an_error_and_not_a_signal() -> None:
    file = CheckpointFile.create(SIZE_BYTES)
    file.close()
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with pytest.raises(OSError, match="Illegal seek"):
            CheckpointFile(writing, SIZE_BYTES).write((0,), b"x")
    finally:
        os.close(writing)
