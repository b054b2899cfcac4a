from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from darkroom_server.backends.base import ImageArray, Painter
from darkroom_server.backends.fake import FakeStepModel, FakeTrajectory
from darkroom_server.domain.jobs import (
    BatchShare,
    JobCompleted,
    JobImage,
    JobPreview,
    JobProgress,
    PreviewSpec,
)
from darkroom_server.worker import compression
from darkroom_server.worker.compression import MAX_WAITING_PREVIEWS
from darkroom_server.worker.jobs import PROGRESS_INTERVAL_S
from darkroom_server.worker.messages import JobReports, SubmitJob
from tests.unit.specs import job
from tests.unit.worker.loop_bench import Bench, shared


def test_progress_comes_a_few_times_a_second_and_the_last_step_always() -> None:
    bench = Bench()
    bench.loop.post(shared("a", step_count=50))
    for _ in range(50):
        bench.clock.now_s += PROGRESS_INTERVAL_S / 4
        bench.loop.tick()
    steps = [e.completed_step_count for e in bench.events() if isinstance(e, JobProgress)]
    assert steps[-1] == 50
    assert 10 <= len(steps) <= 15


def test_a_preview_shows_what_the_image_has_come_to() -> None:
    bench = Bench()
    wanted = PreviewSpec(interval_step_count=2, max_edge_px=32)
    bench.loop.post(
        shared("a", step_count=5, seeds=(100,), width_px=128, height_px=64, preview=wanted)
    )
    bench.ticks(5)
    previews = [event for event in bench.events() if isinstance(event, JobPreview)]
    assert [preview.completed_step_count for preview in previews] == [2, 4]
    picture = Image.open(io.BytesIO(previews[0].content))
    assert (picture.format, picture.size) == ("JPEG", (32, 16))
    assert (previews[0].width_px, previews[0].height_px) == (32, 16)
    np.testing.assert_allclose(np.asarray(picture), 102, atol=1)


def test_a_failing_preview_costs_the_job_nothing() -> None:
    class Unpaintable(FakeStepModel):
        def painter(self, trajectories: Sequence[FakeTrajectory]) -> Painter:
            if trajectories[0].completed_step_count % 2:
                raise ValueError(trajectories)
            return lambda: [np.zeros(()) for _ in trajectories]

    bench = Bench(Unpaintable())
    step_count = 2 * MAX_WAITING_PREVIEWS
    bench.loop.post(shared("a", step_count=step_count, preview=PreviewSpec(interval_step_count=1)))
    bench.ticks(step_count)
    assert isinstance(bench.events()[-1], JobCompleted)
    assert bench.lane.reserve_previews(MAX_WAITING_PREVIEWS + 1) == MAX_WAITING_PREVIEWS


def test_no_more_previews_are_painted_than_there_is_room_for() -> None:
    painted_counts = []

    class Watched(FakeStepModel):
        def painter(self, trajectories: Sequence[FakeTrajectory]) -> Painter:
            painted_counts.append(len(trajectories))
            return super().painter(trajectories)

    bench = Bench(Watched())
    wanted = PreviewSpec(interval_step_count=1)
    bench.loop.post(shared("a", step_count=3, seeds=(1, 2, 3), preview=wanted))
    taken = bench.lane.reserve_previews(MAX_WAITING_PREVIEWS - 2)
    bench.ticks(1)
    bench.lane.give_back_previews(taken)
    assert painted_counts == [2]


def test_previews_of_a_step_are_painted_beside_the_loop_and_come_in_one_message() -> None:
    threads = set()

    class Watched(FakeStepModel):
        def painter(self, trajectories: Sequence[FakeTrajectory]) -> Painter:
            paint = super().painter(trajectories)

            def watched() -> list[ImageArray]:
                threads.add(threading.current_thread().name)
                return paint()

            return watched

    bench = Bench(Watched())
    for name in ("a", "b"):
        wanted = PreviewSpec(interval_step_count=2)
        bench.loop.post(shared(name, step_count=3, seeds=(1, 2), preview=wanted))
    bench.ticks(3)
    bench.lane.close()
    [message] = [report for report in bench.reports if isinstance(report, JobReports)]
    assert sorted(report.job_id for report in message.reports) == ["a", "a", "b", "b"]
    assert [name.split("_")[0] for name in threads] == ["compress"]


def test_progress_tells_which_step_was_shared_with_how_many() -> None:
    bench = Bench()
    bench.loop.post(shared("a", step_count=2, seeds=(1, 2)))
    bench.loop.post(shared("b", step_count=2))
    bench.loop.tick()
    bench.clock.now_s += PROGRESS_INTERVAL_S
    bench.loop.tick()
    told = {
        job_id: [e.batch for e in bench.events(job_id) if isinstance(e, JobProgress) and e.batch]
        for job_id in ("a", "b")
    }
    assert [share.batch_id for share in told["a"]] == [share.batch_id for share in told["b"]]
    assert [share.batch_image_count for share in told["a"]] == [3, 3]
    assert [share.request_image_count for share in told["a"]] == [2, 2]
    assert [share.request_image_count for share in told["b"]] == [1, 1]


def test_a_job_tells_the_fullest_step_that_it_shared() -> None:
    bench = Bench()
    bench.loop.post(shared("a", step_count=3, seeds=(1, 2)))
    bench.ticks(1)
    bench.loop.post(shared("b", step_count=1))
    bench.ticks(2)
    completed = bench.events()[-1]
    assert isinstance(completed, JobCompleted)
    assert completed.batch == BatchShare(batch_id="2", batch_image_count=3, request_image_count=2)


def test_an_image_is_hashed_by_the_thread_that_compresses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hashing is work in proportion to the image, which the loops of both processes must not do."""
    threads: list[str] = []

    def sha256(content: bytes) -> Any:
        threads.append(threading.current_thread().name)
        return hashlib.sha256(content)

    monkeypatch.setattr(compression, "hashlib", SimpleNamespace(sha256=sha256))
    bench = Bench()
    bench.loop.post(SubmitJob(job(step_count=1, seeds=(10, 20))))
    bench.ticks(3)
    images = [event for event in bench.events() if isinstance(event, JobImage)]
    assert [one.sha256 for one in images] == [
        hashlib.sha256(one.content).digest() for one in images
    ]
    assert len(threads) == 2
    assert all(name.startswith("compress") for name in threads)
