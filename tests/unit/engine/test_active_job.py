"""Where a job's time went, of which its worker knows only a part."""

from __future__ import annotations

from darkroom_server.domain.jobs import JobCompleted, JobTimings
from darkroom_server.engine.active_job import ActiveJob
from darkroom_server.engine.stream import JobStream
from tests.unit.specs import job

TOLD = JobCompleted(image_count=1, timings=JobTimings(queue_s=1.0, denoise_s=4.0, total_s=5.5))


def timings(active: ActiveJob, now_s: float) -> JobTimings:
    return active.completed(TOLD, now_s).timings


def test_a_job_that_a_worker_could_take_at_once_has_what_the_worker_told() -> None:
    active = ActiveJob(job("a"), JobStream(), 100.0)
    active.give(100.0)
    assert timings(active, 105.5) == TOLD.timings


def test_waiting_for_the_model_is_loading_and_no_part_of_the_queue() -> None:
    active = ActiveJob(job("a"), JobStream(), 100.0)
    active.wait(100.0)
    active.wait(103.0)
    active.give(110.0)
    found = timings(active, 115.5)
    assert (found.queue_s, found.load_s, found.denoise_s, found.total_s) == (1.0, 10.0, 4.0, 15.5)


def test_what_a_worker_did_before_it_died_is_waiting() -> None:
    active = ActiveJob(job("a"), JobStream(), 100.0)
    active.give(100.0)
    active.wait(103.0)
    active.give(105.0)
    found = timings(active, 110.5)
    assert (found.queue_s, found.load_s, found.total_s) == (4.0, 2.0, 10.5)
