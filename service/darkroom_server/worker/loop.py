"""The worker's loop: take commands, take one denoising step, hand over what is finished.

Thread-bound: everything but `post` belongs to the thread that calls `run` or `tick`. Knows nothing
of processes, so tests drive it with the fake backend.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, assert_never

import structlog

from darkroom_server.backends.base import StepModel
from darkroom_server.domain.errors import (
    DarkroomError,
    DeadlineExceeded,
    GenerationFailed,
    OutOfDeviceMemory,
)
from darkroom_server.domain.jobs import Job, JobEvent, JobProgress, JobQueued, Stage
from darkroom_server.scheduling.step_batcher import Step, StepBatcher
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

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _ActiveJob:
    job: Job
    record: JobRecord
    encoded: Any = None
    trajectories: dict[int, Any] = field(default_factory=dict)
    ahead_count: int = 0


class WorkerLoop:
    """Runs jobs on one model. `emit` must be safe to call from the compress lane's thread too."""

    def __init__(
        self,
        model: StepModel,
        emit: Callable[[Report], None],
        *,
        lane: CompressLane | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._emit = emit
        self._clock = clock
        self._inbox: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._batcher = StepBatcher()
        self._jobs: dict[str, _ActiveJob] = {}
        self._lane = lane or CompressLane(emit, clock)
        self._stopping = False

    def post(self, command: Command) -> None:
        """Hands the loop a command; from any thread."""
        self._inbox.put(command)

    def run(self) -> None:
        """Ticks until a StopWorker command, sleeping in the inbox while there is nothing to do."""
        while not self._stopping:
            if not len(self._batcher):
                self._obey(self._inbox.get())
            self.tick()
        self._lane.close()

    def tick(self) -> None:
        """Obeys all commands, drops what is late, and takes one step if there is one."""
        while not self._inbox.empty():
            self._obey(self._inbox.get())
        for late in self._batcher.expired(self._clock()):
            self._fail(late.job_id, DeadlineExceeded("The deadline passed."))
        step = self._batcher.plan()
        if step is None or self._stopping:
            return
        try:
            self._take(step)
        except DarkroomError as error:
            self._fail(step.job_id, error)
        except Exception as error:
            log.exception("job failed", job_id=step.job_id)
            self._fail(step.job_id, _as_domain_error(error))

    def _obey(self, command: Command) -> None:
        match command:
            case SubmitJob(job):
                self._batcher.add(job)
                record = JobRecord(job=job, submitted_s=self._clock())
                self._jobs[job.job_id] = _ActiveJob(job, record)
                self._tell_places()
            case CancelJob(job_id):
                self._drop(job_id)
            case StopWorker():
                self._stopping = True
            case _:
                assert_never(command)

    def _take(self, step: Step) -> None:
        """One denoising step; before an image's first one, its beginning."""
        active = self._jobs[step.job_id]
        trajectory = active.trajectories.get(step.image_index)
        if trajectory is None:
            trajectory = self._begin(active, step.image_index)
        started_s = self._clock()
        outputs = self._model.denoise(self._model.gather([trajectory]))
        self._model.scatter([trajectory], outputs)
        active.record.denoise_s += self._clock() - started_s
        finished = trajectory.finished
        self._batcher.commit(step, finished=finished)
        self._tell_progress(active)
        if finished:
            self._finish(active, step.image_index, trajectory)

    def _begin(self, active: _ActiveJob, image_index: int) -> Any:
        spec, started_s = active.job.spec, self._clock()
        if not active.trajectories:
            active.record.started_s = started_s
            self._report(active, JobProgress(stage=Stage.ENCODE, total_step_count=spec.step_count))
            active.encoded = self._model.encode(spec)
        trajectory = self._model.begin(spec, active.encoded, image_index)
        active.trajectories[image_index] = trajectory
        active.record.encode_s += self._clock() - started_s
        return trajectory

    def _finish(self, active: _ActiveJob, image_index: int, trajectory: Any) -> None:
        started_s = self._clock()
        pixels = self._model.decode(trajectory)
        active.record.decode_s += self._clock() - started_s
        active.trajectories[image_index] = _Decoded(trajectory.step_count)
        done = all(isinstance(one, _Decoded) for one in active.trajectories.values())
        if done and len(active.trajectories) == len(active.job.spec.seeds):
            del self._jobs[active.job.job_id]
            self._tell_places()
        self._lane.submit(active.record, FinishedImage(image_index, pixels))

    def _tell_progress(self, active: _ActiveJob) -> None:
        """Reports a step once all images of the job have taken it."""
        spec = active.job.spec
        if len(active.trajectories) < len(spec.seeds):
            return
        counts = [one.completed_step_count for one in active.trajectories.values()]
        least = min(counts)
        if least > active.record.reported_step_count:
            active.record.reported_step_count = least
            total = max(one.step_count for one in active.trajectories.values())
            self._report(
                active,
                JobProgress(
                    stage=Stage.DENOISE, completed_step_count=least, total_step_count=total
                ),
            )

    def _tell_places(self) -> None:
        """Tells waiting jobs whose place in the queue changed."""
        for active in self._jobs.values():
            if active.trajectories:
                continue
            ahead_count = self._batcher.ahead_count(active.job.job_id)
            if ahead_count != active.ahead_count:
                active.ahead_count = ahead_count
                self._report(active, JobQueued(ahead_count))

    def _fail(self, job_id: str, error: DarkroomError) -> None:
        if job_id in self._jobs:
            self._drop(job_id)
            self._emit(JobFailed(job_id, error))

    def _drop(self, job_id: str) -> None:
        self._batcher.remove(job_id)
        active = self._jobs.pop(job_id, None)
        if active is not None:
            active.record.cancelled = True
            log.info(
                "job stopped",
                job_id=job_id,
                completed_step_count=active.record.reported_step_count,
                step_count=active.job.spec.step_count,
            )
            self._tell_places()

    def _report(self, active: _ActiveJob, event: JobEvent) -> None:
        self._emit(JobReport(active.job.job_id, event))


@dataclass(frozen=True, slots=True)
class _Decoded:
    """Stands for a trajectory whose tensors are no longer needed."""

    step_count: int

    @property
    def completed_step_count(self) -> int:
        return self.step_count


def _as_domain_error(error: Exception) -> DarkroomError:
    """torch raises its own MemoryError look-alikes, and this layer does not import torch."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return OutOfDeviceMemory("The device has not enough memory for this request.")
    return GenerationFailed("The model failed on this request.")
