"""The worker's loop for models that run whole requests: batch after batch, each from end to end.

Commands and reports are those of `WorkerLoop`, and so are the threads: one that calls `run` or
`tick` and owns the model, and any that calls `post`. What both touch is behind one lock that is
never held while the model runs. A batch that none is left of is stopped at its next step; while
some are left it runs on, and the images of the others are dropped.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

import structlog

from darkroom_server.backends.base import ImageArray, RequestModel
from darkroom_server.domain.errors import (
    Cancelled,
    DarkroomError,
    DeadlineExceeded,
    OutOfDeviceMemory,
    QueueFull,
)
from darkroom_server.domain.jobs import (
    BatchShare,
    ImageSpec,
    Job,
    JobEvent,
    JobProgress,
    JobQueued,
    Reproducibility,
    Stage,
)
from darkroom_server.domain.models import DynamicBatching
from darkroom_server.scheduling.admission import late_refusal
from darkroom_server.scheduling.run_costs import RunCosts
from darkroom_server.scheduling.window_batcher import ImagePlace, WindowBatch, WindowBatcher
from darkroom_server.worker.counters import WorkerCounters
from darkroom_server.worker.failures import attempt
from darkroom_server.worker.lanes import CompressLane, FinishedImage, JobRecord
from darkroom_server.worker.messages import (
    CancelJob,
    Command,
    JobFailed,
    JobReport,
    Report,
    StopWorker,
    SubmitJob,
)
from darkroom_server.worker.running import PROGRESS_INTERVAL_S

log = structlog.get_logger(__name__)

#: Callers that were turned away are told to come back no sooner.
MIN_RETRY_S = 0.1


@dataclass(slots=True)
class _WaitingJob:
    """A job, and how much of it is done."""

    job: Job
    record: JobRecord
    has_begun: bool = False
    made_count: int = 0
    ahead_count: int = 0
    reported_step_count: int = 0
    reported_s: float = -math.inf

    def news(self, running_count: int, done: int, total: int, now_s: float) -> JobProgress | None:
        """Progress not reported yet, unless the last report was a moment ago; the end always.

        `running_count` of its images have done `done` of `total` steps. Of images that run one
        after another it is the mean, rounded down.
        """
        completed = (self.made_count * total + running_count * done) // len(self.job.spec.seeds)
        is_early = completed < total and now_s - self.reported_s < PROGRESS_INTERVAL_S
        if completed <= self.reported_step_count or is_early:
            return None
        self.reported_step_count, self.reported_s = completed, now_s
        return JobProgress(
            stage=Stage.DENOISE, completed_step_count=completed, total_step_count=total
        )


@dataclass(frozen=True, slots=True)
class _Part:
    """A job in a run; `spec` is its request for those of its images that are in it."""

    waiting: _WaitingJob
    spec: ImageSpec


class WindowLoop:
    """Runs jobs on one model. `emit` must be safe to call from any thread."""

    def __init__(
        self,
        model: RequestModel,
        emit: Callable[[Report], None],
        *,
        max_batch_size: int,
        batching: DynamicBatching,
        lane: CompressLane | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._emit = emit
        self._clock = clock
        self._batcher = WindowBatcher(max_batch_size, batching)
        self._costs = RunCosts(max_batch_size)
        #: When what runs now should be done, as far as that is known.
        self._free_s = -math.inf
        self._jobs: dict[str, _WaitingJob] = {}
        self._lane = lane or CompressLane(emit, clock)
        self._counters = WorkerCounters()
        self._stopping = False
        self._lock = threading.RLock()
        self._posted = threading.Condition(self._lock)
        self._batch_numbers = itertools.count(1)

    def post(self, command: Command) -> None:
        """Obeys a command; from any thread, and without waiting for a batch."""
        with self._lock:
            match command:
                case SubmitJob(job, is_promised):
                    self._admit(job, is_promised=is_promised)
                case CancelJob(job_id):
                    self._drop(job_id)
                case StopWorker():
                    self._stopping = True
                case _:
                    assert_never(command)
            self._posted.notify()

    def run(self) -> None:
        """Runs batches until a StopWorker command, sleeping while there is none to run."""
        while (batch := self._next_batch()) is not None:
            self._take(batch)
        self._lane.close()

    def run_to_end(self) -> None:
        """Runs batches until all jobs have ended and their images are encoded; takes no more."""
        while len(self._batcher):
            self.tick()
        self._lane.close()

    def tick(self) -> None:
        """Drops what is late, and runs one batch if there is one now."""
        with self._lock:
            self._drop_late()
            planned = self._batcher.plan(self._clock())
        if isinstance(planned, WindowBatch):
            self._take(planned)
        self._tell_counts()

    def _next_batch(self) -> WindowBatch | None:
        """Waits for a batch; None after a StopWorker command."""
        with self._lock:
            while not self._stopping:
                self._drop_late()
                self._tell_counts()
                now_s = self._clock()
                planned = self._batcher.plan(now_s)
                if isinstance(planned, WindowBatch):
                    return planned
                until_s = min(planned.until_s, self._counters.due_s())
                self._posted.wait(None if math.isinf(until_s) else max(0.0, until_s - now_s))
        return None

    def _admit(self, job: Job, *, is_promised: bool) -> None:
        """Takes a job in, unless it cannot be honoured, be in time, or wait with so many."""
        key = attempt(lambda: self._model.compatible_key(job.spec))
        if isinstance(key, DarkroomError):
            self._emit(JobFailed(job.job_id, key))
            return
        now_s = self._clock()
        # Rows of one run differ in their last bits with their number, and nothing fills runs up.
        alone = job.spec.reproducibility is not Reproducibility.TOLERANCE
        estimated_s = self._estimate_s(job, now_s, alone=alone)
        refused = late_refusal(job, estimated_s, now_s, is_idle=not len(self._batcher))
        if refused is not None or not (is_promised or self._batcher.has_room(job)):
            full = QueueFull(
                "As many requests of this priority wait as the model's queue policy allows.",
                retry_after_s=max(MIN_RETRY_S, self._free_s - now_s),
            )
            self._emit(JobFailed(job.job_id, refused or full))
            return
        waiting = _WaitingJob(job, JobRecord(job=job, submitted_s=now_s))
        self._jobs[job.job_id] = waiting
        self._batcher.add(job, key, now_s, alone=alone)
        waiting.ahead_count = self._batcher.ahead_count(job.job_id)
        self._report(waiting, JobQueued(waiting.ahead_count, estimated_s=estimated_s))

    def _estimate_s(self, job: Job, now_s: float, *, alone: bool) -> float | None:
        """Seconds until a job would be made, by what is here now."""
        return self._costs.estimate_s(
            job.spec,
            alone=alone,
            ahead=self._batcher.ahead(job, now_s),
            running_s=max(0.0, self._free_s - now_s),
        )

    def _take(self, batch: WindowBatch) -> None:
        """Runs a batch; what was made of it is done, and what failed of it has failed."""
        with self._lock:
            for place in batch.images:
                if (waiting := self._jobs.get(place.job_id)) and not waiting.has_begun:
                    self._begin(waiting)
            self._batcher.begin(batch)
            self._tell_places()
        self._run(batch.images)
        with self._lock:
            self._batcher.commit(batch)

    def _begin(self, waiting: _WaitingJob) -> None:
        waiting.has_begun = True
        waiting.record.started_s = self._clock()
        total = waiting.job.spec.step_count
        self._report(waiting, JobProgress(stage=Stage.ENCODE, total_step_count=total))

    def _run(self, images: Sequence[ImagePlace]) -> None:
        """One run of images; one that fails is halved until only what is guilty fails."""
        with self._lock:
            images = [place for place in images if place.job_id in self._jobs]
            parts = [
                _part(self._jobs[job_id], images)
                for job_id in dict.fromkeys(place.job_id for place in images)
            ]
        if not parts or self._stopping:
            return
        specs = [part.spec for part in parts]
        started_s = self._clock()
        self._free_s = started_s + (self._costs.run_s(specs[0], len(images)) or 0.0)
        made = attempt(
            lambda: self._model.run(specs, lambda done, total: self._on_step(parts, done, total))
        )
        if not isinstance(made, DarkroomError):
            duration_s = self._clock() - started_s
            with self._lock:
                self._costs.learn(specs[0], len(images), duration_s)
            self._note_run(parts, duration_s)
            for part, arrays in zip(parts, made, strict=True):
                own = [place for place in images if place.job_id == part.waiting.job.job_id]
                for place, pixels in zip(own, arrays, strict=True):
                    self._finish(place, part.waiting, pixels)
        elif not isinstance(made, Cancelled):
            self._run_halves(images, made)

    def _run_halves(self, images: Sequence[ImagePlace], error: DarkroomError) -> None:
        is_too_large = isinstance(error, OutOfDeviceMemory) and len(images) > 1
        if is_too_large:
            with self._lock:
                self._batcher.max_images = len(images) // 2
            log.warning("out of memory", max_batch_size=len(images) // 2)
        elif len({place.job_id for place in images}) == 1:
            self._fail(images[0].job_id, error)
            return
        half = len(images) // 2
        self._run(images[:half])
        self._run(images[half:])

    def _on_step(self, parts: Sequence[_Part], done: int, total: int) -> None:
        """Tells of a step of all of them; raises Cancelled when nobody waits for the rest."""
        now_s = self._clock()
        image_count = sum(len(part.spec.seeds) for part in parts)
        self._counters.note_step(image_count, capacity_row_count=self._batcher.max_images)
        with self._lock:
            self._drop_late()
            self._tell_counts()
            live = [part for part in parts if part.waiting.job.job_id in self._jobs]
            if self._stopping or not live:
                raise Cancelled("Nobody waits for the images any more.")
            for part in live:
                news = part.waiting.news(len(part.spec.seeds), done, total, now_s)
                if news is not None:
                    self._report(part.waiting, news)

    def _note_run(self, parts: Sequence[_Part], duration_s: float) -> None:
        """Books a run with its jobs: encoding and decoding are part of it."""
        number = str(next(self._batch_numbers))
        image_count = sum(len(part.spec.seeds) for part in parts)
        for part in parts:
            share = BatchShare(
                batch_id=number,
                batch_image_count=image_count,
                request_image_count=len(part.spec.seeds),
            )
            part.waiting.record.note_step(share, duration_s)

    def _finish(self, place: ImagePlace, waiting: _WaitingJob, pixels: ImageArray) -> None:
        """Hands an image to the compress lane, unless its job has ended meanwhile."""
        with self._lock:
            if place.job_id not in self._jobs:
                return
            waiting.made_count += 1
            if waiting.made_count == len(waiting.job.spec.seeds):
                del self._jobs[place.job_id]
        waiting.record.peak_memory_bytes = self._model.peak_memory_bytes()
        self._lane.submit(waiting.record, FinishedImage(place.image_index, pixels))

    def _tell_counts(self) -> None:
        if (stats := self._counters.news(self._clock())) is not None:
            self._emit(stats)

    def _tell_places(self) -> None:
        """Tells waiting jobs whose place in the queue changed."""
        for ahead_count, job_id in enumerate(self._batcher.order()):
            waiting = self._jobs.get(job_id)
            if waiting is None or waiting.has_begun or waiting.ahead_count == ahead_count:
                continue
            waiting.ahead_count = ahead_count
            self._report(waiting, JobQueued(ahead_count))

    def _drop_late(self) -> None:
        now_s = self._clock()
        for late in self._batcher.expired(now_s):
            self._fail(late.job_id, DeadlineExceeded("The deadline passed."))
        for late in self._batcher.timed_out(now_s):
            full = QueueFull(
                "It waited as long as the model's queue policy allows.",
                retry_after_s=max(MIN_RETRY_S, self._free_s - now_s),
            )
            self._fail(late.job_id, full)

    def _fail(self, job_id: str, error: DarkroomError) -> None:
        with self._lock:
            if job_id in self._jobs:
                self._drop(job_id)
                self._emit(JobFailed(job_id, error))

    def _drop(self, job_id: str) -> None:
        self._batcher.remove(job_id)
        waiting = self._jobs.pop(job_id, None)
        if waiting is not None:
            waiting.record.cancelled = True
            log.info("job stopped", job_id=job_id)

    def _report(self, waiting: _WaitingJob, event: JobEvent) -> None:
        self._emit(JobReport(waiting.job.job_id, event))


def _part(waiting: _WaitingJob, images: Sequence[ImagePlace]) -> _Part:
    spec, job_id = waiting.job.spec, waiting.job.job_id
    seeds = tuple(spec.seeds[place.image_index] for place in images if place.job_id == job_id)
    return _Part(waiting, replace(spec, seeds=seeds))
