"""The jobs of a worker that have not ended, and what their callers hear of them.

One table for whatever runs the jobs: what a runner keeps of a job is a subclass of `WorkerJob`. Its
lock guards the table and the batcher, and is never held while the model runs.
"""

from __future__ import annotations

import itertools
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import structlog

from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.jobs import BatchShare, Job, JobEvent, JobProgress, JobQueued, Stage
from darkroom_server.scheduling.likely import LikelyBounds
from darkroom_server.worker.compression import JobRecord
from darkroom_server.worker.messages import JobFailed, JobReport, Report

log = structlog.get_logger(__name__)

#: Progress of a job is reported at most this often.
PROGRESS_INTERVAL_S = 0.1
#: Jobs further back in the queue hear of their position when they come nearer.
MAX_REPORTED_POSITIONS = 32


class Batcher(Protocol):
    """What the table asks of either batcher of `scheduling`."""

    def __len__(self) -> int: ...

    def remove(self, job_id: str) -> None:
        """Takes a job out. Unknown ids are ignored."""
        ...

    def expired(self, now_s: float) -> tuple[Job, ...]:
        """Jobs whose deadline has passed; each is returned once."""
        ...

    def order(self) -> Iterator[str]:
        """Job ids, the most urgent first."""
        ...

    def ahead_count(self, job_id: str) -> int:
        """Jobs that are more urgent than one that is here."""
        ...


@dataclass(slots=True, kw_only=True)
class WorkerJob(ABC):
    """A job in a worker. `ahead_count`: the position in the queue that its caller knows."""

    job: Job
    record: JobRecord
    has_begun: bool = False
    ahead_count: int = 0
    reported_step_count: int = 0
    reported_s: float = -math.inf

    @property
    @abstractmethod
    def completed_step_count(self) -> int:
        """Steps that the job's images have taken, on the average, rounded down."""

    @property
    @abstractmethod
    def total_step_count(self) -> int:
        """Steps that each of its images takes."""

    def unreported_progress(
        self, now_s: float, batch: BatchShare | None = None
    ) -> JobProgress | None:
        """Progress not reported yet, at most once in each interval of the clock; the end always.

        `batch` is how the step just taken was shared, if one was.
        """
        done, total = self.completed_step_count, self.total_step_count
        # By one clock for all jobs: those that share steps report the same ones.
        is_early = now_s // PROGRESS_INTERVAL_S == self.reported_s // PROGRESS_INTERVAL_S
        if done <= self.reported_step_count or (done < total and is_early):
            return None
        self.reported_step_count, self.reported_s = done, now_s
        return JobProgress(
            stage=Stage.DENOISE,
            completed_step_count=done,
            total_step_count=total,
            batch=batch,
        )


OneJob = TypeVar("OneJob", bound=WorkerJob)


class JobTable(Generic[OneJob]):
    """Jobs by their id. Safe to use from any thread; `emit` must be, too."""

    def __init__(
        self,
        batcher: Batcher,
        emit: Callable[[Report], None],
        *,
        lock: threading.RLock | None = None,
    ) -> None:
        self.lock = lock or threading.RLock()
        self._batcher = batcher
        self._emit = emit
        self._jobs: dict[str, OneJob] = {}
        self._bounds = LikelyBounds()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or runs."""
        return not len(self._batcher)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def get(self, job_id: str) -> OneJob | None:
        """A job that has not ended."""
        return self._jobs.get(job_id)

    def expired(self, now_s: float) -> tuple[Job, ...]:
        """Jobs whose deadline has passed; each is returned once."""
        return self._batcher.expired(now_s)

    def add(self, one: OneJob, estimated_s: float | None) -> None:
        """Adds a job that the batcher has, and reports its position in the queue."""
        self._jobs[one.job.job_id] = one
        one.ahead_count = self._batcher.ahead_count(one.job.job_id)
        within_s, deadline_s = None, one.job.deadline_s
        if estimated_s is not None:
            waits, now_s = one.ahead_count > 0, one.record.submitted_s
            within_s = self._bounds.give(
                one.job.job_id,
                estimated_s,
                now_s,
                waits=waits,
                has_deadline=deadline_s is not None,
            )
            if deadline_s is not None:
                within_s = min(within_s, max(estimated_s, deadline_s - now_s))
        self.report(
            one, JobQueued(one.ahead_count, estimated_s=estimated_s, likely_within_s=within_s)
        )

    def begin(self, one: OneJob, now_s: float) -> None:
        """The first of a job's images begins."""
        one.has_begun = True
        one.record.started_s = now_s
        total = one.job.spec.step_count
        self.report(one, JobProgress(stage=Stage.ENCODE, total_step_count=total))

    def end(self, job_id: str, now_s: float) -> None:
        """All images of a job are made: what is left is the compress lane's."""
        with self.lock:
            self._jobs.pop(job_id, None)
            self._bounds.ended(job_id, now_s)

    def drop(self, job_id: str) -> None:
        """Stops a job; no event of it follows. Unknown ids are ignored."""
        with self.lock:
            self._batcher.remove(job_id)
            self._bounds.forget(job_id)
            one = self._jobs.pop(job_id, None)
        if one is None:
            return
        one.record.cancelled = True
        log.info(
            "job stopped",
            job_id=job_id,
            completed_step_count=one.completed_step_count,
            step_count=one.job.spec.step_count,
        )

    def fail(self, job_id: str, error: DarkroomError) -> None:
        """Ends a job without its images. Unknown ids are ignored."""
        with self.lock:
            if job_id in self._jobs:
                self.drop(job_id)
                self.refuse(job_id, error)

    def refuse(self, job_id: str, error: DarkroomError) -> None:
        """Says why a job is not taken in."""
        self._emit(JobFailed(job_id, error))

    def report(self, one: OneJob, event: JobEvent) -> None:
        """Sends an event of a job."""
        self._emit(JobReport(one.job.job_id, event))

    def report_progress(self, one: OneJob, now_s: float, batch: BatchShare | None = None) -> None:
        """Reports a job's progress, if that is new and due."""
        if (progress := one.unreported_progress(now_s, batch)) is not None:
            self.report(one, progress)

    def report_positions(
        self, estimates_s: Callable[[Sequence[str]], Mapping[str, float]], now_s: float
    ) -> None:
        """Reports changed queue positions and estimates to waiting jobs near the front."""
        moved = [
            (ahead_count, one)
            for ahead_count, job_id in enumerate(
                itertools.islice(self._batcher.order(), MAX_REPORTED_POSITIONS)
            )
            if (one := self._jobs.get(job_id)) is not None
            and not one.has_begun
            and one.ahead_count != ahead_count
        ]
        estimated_s = estimates_s([one.job.job_id for _, one in moved])
        for ahead_count, one in moved:
            one.ahead_count = ahead_count
            left_s, within_s = estimated_s.get(one.job.job_id), None
            if left_s is not None:
                within_s = self._bounds.left_s(one.job.job_id, left_s, now_s)
            self.report(one, JobQueued(ahead_count, estimated_s=left_s, likely_within_s=within_s))
