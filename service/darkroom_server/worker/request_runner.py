"""Runs whole requests, batch after batch, each from end to end.

`request_loop` makes the loop of a worker whose model is a `RequestModel`. A batch that none is left
of is stopped at its next step; while some are left it runs on, and the images of the others are
dropped.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from darkroom_server.backends.base import ImageArray, RequestModel
from darkroom_server.domain.dynamic_batching import DynamicBatching
from darkroom_server.domain.errors import Cancelled, DarkroomError, OutOfDeviceMemory, QueueFull
from darkroom_server.domain.jobs import BatchShare, ImageSpec, Reproducibility
from darkroom_server.scheduling.admission import late_refusal
from darkroom_server.scheduling.run_costs import RunCosts
from darkroom_server.scheduling.window_batcher import (
    ImagePlace,
    WaitUntil,
    WindowBatch,
    WindowBatcher,
)
from darkroom_server.worker.compression import Compression, FinishedImage, JobRecord
from darkroom_server.worker.counters import WorkerCounters
from darkroom_server.worker.failures import attempt
from darkroom_server.worker.jobs import JobTable, WorkerJob
from darkroom_server.worker.loop import Attend, Work, WorkerLoop
from darkroom_server.worker.messages import Report, SubmitJob

log = structlog.get_logger(__name__)

#: Least retry delay of callers that were refused.
MIN_RETRY_S = 0.1


def request_loop(
    model: RequestModel,
    emit: Callable[[Report], None],
    *,
    max_batch_size: int,
    batching: DynamicBatching,
    lane: Compression | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> WorkerLoop[RequestJob]:
    """A loop that runs whole requests on one model. `emit` must be safe from any thread."""
    batcher, counters = WindowBatcher(max_batch_size, batching), WorkerCounters()
    jobs: JobTable[RequestJob] = JobTable(batcher, emit)
    lane = lane or Compression(emit, clock)
    runner = RequestRunner(model, jobs, batcher, lane=lane, counters=counters, clock=clock)
    return WorkerLoop(jobs, runner, emit, lane=lane, counters=counters, clock=clock)


@dataclass(slots=True, kw_only=True)
class RequestJob(WorkerJob):
    """A job, and how much of it is done: images that are made, and steps of those that run.

    `is_alone`: its images run one by one.
    """

    is_alone: bool
    made_count: int = 0
    running_count: int = 0
    #: Of the images that run: steps done, and as many as the pipeline says there are.
    done_count: int = 0
    step_count: int = 0

    @property
    def completed_step_count(self) -> int:
        """Of images that run one after another it is the mean, rounded down."""
        steps = self.made_count * self.step_count + self.running_count * self.done_count
        return steps // len(self.job.spec.seeds)

    @property
    def total_step_count(self) -> int:
        """As the pipeline counts them."""
        return self.step_count

    @property
    def waiting_count(self) -> int:
        """Its images that neither are made nor run."""
        return len(self.job.spec.seeds) - self.made_count - self.running_count


@dataclass(frozen=True, slots=True)
class _Part:
    """A job in a run, and which of its images are in it."""

    running: RequestJob
    places: tuple[ImagePlace, ...]

    @property
    def spec(self) -> ImageSpec:
        """Its request for these."""
        whole = self.running.job.spec
        seeds = tuple(whole.seeds[place.image_index] for place in self.places)
        return replace(whole, seeds=seeds)


class RequestRunner:
    """The `Runner` of a `RequestModel`."""

    def __init__(
        self,
        model: RequestModel,
        jobs: JobTable[RequestJob],
        batcher: WindowBatcher,
        *,
        lane: Compression,
        counters: WorkerCounters,
        clock: Callable[[], float],
    ) -> None:
        self._model = model
        self._jobs = jobs
        self._batcher = batcher
        self._costs = RunCosts(batcher.max_images)
        #: When what runs now should be done, as far as that is known.
        self._free_s = -math.inf
        self._lane = lane
        self._counters = counters
        self._clock = clock
        self._batch_numbers = itertools.count(1)

    def admit(self, asked: SubmitJob, now_s: float) -> DarkroomError | None:
        """Refuses a job that the model cannot do, that would be late, or has no room to wait.

        What was done of it before is done again: nothing is kept within a run. Raises DeviceLost.
        """
        job, is_promised = asked.job, asked.is_promised
        key = attempt(lambda: self._model.compatible_key(job.spec))
        if isinstance(key, DarkroomError):
            return key
        # Rows of one run differ in their last bits with their number, and nothing fills runs up.
        alone = job.spec.reproducibility is not Reproducibility.TOLERANCE
        estimated_s = self._costs.estimate_s(
            job.spec,
            alone=alone,
            ahead=self._batcher.ahead(job, now_s),
            running_s=self._running_s(now_s),
        )
        refused = late_refusal(job, estimated_s, now_s, is_idle=self._jobs.is_idle)
        if refused is not None:
            return refused
        if not (is_promised or self._batcher.has_room(job)):
            return QueueFull(
                "As many requests of this priority wait as the model's queue policy allows.",
                retry_after_s=max(MIN_RETRY_S, self._free_s - now_s),
            )
        self._batcher.add(job, key, now_s, alone=alone)
        record = JobRecord(job=job, submitted_s=now_s)
        self._jobs.add(RequestJob(job=job, record=record, is_alone=alone), estimated_s)
        return None

    def timed_out(self, now_s: float) -> list[tuple[str, DarkroomError]]:
        """By the model's queue policy."""
        retry_after_s = max(MIN_RETRY_S, self._free_s - now_s)
        return [
            (
                late.job_id,
                QueueFull(
                    "It waited as long as the model's queue policy allows.",
                    retry_after_s=retry_after_s,
                ),
            )
            for late in self._batcher.timed_out(now_s)
        ]

    def plan(self, now_s: float) -> Work | WaitUntil:
        """The next run, whose jobs wait no longer."""
        planned = self._batcher.plan(now_s)
        if isinstance(planned, WaitUntil):
            return planned
        for place in planned.images:
            one = self._jobs.get(place.job_id)
            if one is not None and not one.has_begun:
                self._jobs.begin(one, now_s)
        self._batcher.begin(planned)
        return partial(self._take, planned)

    def estimates_s(self, job_ids: Sequence[str], now_s: float) -> Mapping[str, float]:
        """Of those of which runs like theirs, and like those before them, are known."""
        wanted, found = set(job_ids), dict[str, float]()
        ahead_s = self._running_s(now_s)
        for job_id in self._batcher.order():
            if not wanted:
                break
            if (one := self._jobs.get(job_id)) is None:
                continue
            if job_id in wanted:
                wanted.remove(job_id)
                estimated_s = self._costs.estimate_s(
                    one.job.spec, alone=one.is_alone, ahead=(), running_s=ahead_s
                )
                if estimated_s is not None:
                    found[job_id] = estimated_s
            if (share_s := self._share_s(one)) is None:
                break
            ahead_s += share_s
        return found

    def _share_s(self, one: RequestJob) -> float | None:
        """Seconds that others wait for what is left of a job, in full runs where it shares them."""
        image_count = 1 if one.is_alone else self._costs.max_images
        run_s = self._costs.run_s(one.job.spec, image_count)
        return None if run_s is None else run_s * one.waiting_count / image_count

    def rest(self, *, is_idle: bool) -> None:
        """There is nothing to do besides."""

    def close(self) -> None:
        """There is nothing to keep."""

    def _running_s(self, now_s: float) -> float:
        """Seconds that are left of what runs."""
        return max(0.0, self._free_s - now_s)

    def _take(self, batch: WindowBatch, attend: Attend) -> None:
        """Runs a batch; what was made of it is done, and what failed of it has failed."""
        self._run(batch.images, attend)
        with self._jobs.lock:
            self._batcher.commit(batch)

    def _run(self, images: Sequence[ImagePlace], attend: Attend) -> None:
        """One run of images; one that fails is halved until only what is guilty fails."""
        parts = self._parts(images) if attend() else []
        if not parts:
            return
        specs, image_count = [part.spec for part in parts], sum(len(part.places) for part in parts)
        started_s = self._clock()
        self._free_s = started_s + (self._costs.run_s(specs[0], image_count) or 0.0)

        stepped_s: float | None = None

        def on_step(done_count: int, step_count: int) -> None:
            nonlocal stepped_s
            now_s = self._clock()
            self._counters.note_step(image_count, capacity_row_count=self._batcher.max_images)
            # What comes before a run's first step also encodes.
            if stepped_s is not None:
                self._counters.note_step_s(now_s - stepped_s)
            stepped_s = now_s
            if not (attend() and self._note_step(parts, done_count, step_count)):
                raise Cancelled("Nobody waits for the images any more.")

        made = attempt(lambda: self._model.run(specs, on_step))
        if not isinstance(made, DarkroomError):
            ended_s = self._clock()
            with self._jobs.lock:
                self._costs.learn(specs[0], image_count, ended_s - started_s)
            self._note_run(parts, image_count, started_s, ended_s)
            for part, arrays in zip(parts, made, strict=True):
                for place, pixels in zip(part.places, arrays, strict=True):
                    self._finish(place, part.running, pixels)
        elif not isinstance(made, Cancelled):
            self._run_halves(parts, made, attend)

    def _parts(self, images: Sequence[ImagePlace]) -> list[_Part]:
        """The jobs of images, as far as they have not ended, about to run."""
        parts = []
        with self._jobs.lock:
            for job_id in dict.fromkeys(place.job_id for place in images):
                if (running := self._jobs.get(job_id)) is not None:
                    places = tuple(place for place in images if place.job_id == job_id)
                    running.running_count, running.done_count = len(places), 0
                    parts.append(_Part(running, places))
        return parts

    def _run_halves(self, parts: Sequence[_Part], error: DarkroomError, attend: Attend) -> None:
        images = [place for part in parts for place in part.places]
        half = len(images) // 2
        for part in parts:
            part.running.running_count = 0
        if isinstance(error, OutOfDeviceMemory) and half:
            with self._jobs.lock:
                self._batcher.max_images = half
            log.warning("out of memory", max_batch_size=half)
        elif len(parts) == 1:
            self._jobs.fail(images[0].job_id, error)
            return
        self._run(images[:half], attend)
        self._run(images[half:], attend)

    def _note_step(self, parts: Sequence[_Part], done_count: int, step_count: int) -> bool:
        """Reports a step of all of them; whether any caller still waits for the rest."""
        now_s = self._clock()
        with self._jobs.lock:
            live = [part.running for part in parts if part.running.job.job_id in self._jobs]
            for running in live:
                running.done_count, running.step_count = done_count, step_count
                self._jobs.report_progress(running, now_s)
        return bool(live)

    def _note_run(
        self, parts: Sequence[_Part], image_count: int, from_s: float, until_s: float
    ) -> None:
        """Books a run with its jobs: encoding and decoding are part of it."""
        number = str(next(self._batch_numbers))
        jobs = [part.running.job.job_id for part in parts]
        for part in parts:
            share = BatchShare(
                batch_id=number,
                batch_image_count=image_count,
                request_image_count=len(part.places),
            )
            part.running.record.note_step(share, from_s, until_s, jobs=jobs)

    def _finish(self, place: ImagePlace, running: RequestJob, pixels: ImageArray) -> None:
        """Hands an image to the compress lane, unless its job has ended meanwhile."""
        with self._jobs.lock:
            if place.job_id not in self._jobs:
                return
            running.made_count += 1
            running.running_count -= 1
            if running.made_count == len(running.job.spec.seeds):
                self._jobs.end(place.job_id, self._clock())
        running.record.peak_memory_bytes = self._model.peak_memory_bytes()
        self._lane.submit(running.record, FinishedImage(place.image_index, pixels))
