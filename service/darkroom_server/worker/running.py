"""A job while it runs in a worker. Belongs to the loop's thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from darkroom_server.domain.jobs import BatchShare, Job, JobProgress, Stage
from darkroom_server.scheduling.entry import Shape, Step
from darkroom_server.worker.lanes import JobRecord

#: Progress of a job is reported at most this often.
PROGRESS_INTERVAL_S = 0.1


@dataclass(slots=True)
class RunningJob:
    """A job, what was encoded for it, and its images' trajectories once they have begun."""

    job: Job
    shape: Shape
    record: JobRecord
    encoded: Any = None
    trajectories: dict[int, Any] = field(default_factory=dict)
    decoded_count: int = 0
    ahead_count: int = 0
    reported_step_count: int = 0
    reported_s: float = -PROGRESS_INTERVAL_S

    @property
    def has_begun(self) -> bool:
        """Whether any step of it was taken or is about to be."""
        return bool(self.trajectories)

    @property
    def is_decoded(self) -> bool:
        """Whether all of its images are."""
        return self.decoded_count == len(self.job.spec.seeds)

    @property
    def completed_step_count(self) -> int:
        """Steps that the job's images have taken, on the average, rounded down."""
        taken: int = sum(one.completed_step_count for one in self.trajectories.values())
        return taken // len(self.job.spec.seeds)

    def news(self, now_s: float, batch: BatchShare) -> JobProgress | None:
        """Progress not reported yet, at most once in each interval of the clock; the end always.

        `batch` is how the step just taken was shared.
        """
        done = self.completed_step_count
        if done <= self.reported_step_count:
            return None
        total = max(one.step_count for one in self.trajectories.values())
        # By one clock for all jobs: those that share steps report the same ones.
        is_early = now_s // PROGRESS_INTERVAL_S == self.reported_s // PROGRESS_INTERVAL_S
        if done < total and is_early:
            return None
        self.reported_step_count, self.reported_s = done, now_s
        return JobProgress(
            stage=Stage.DENOISE,
            completed_step_count=done,
            total_step_count=total,
            batch=batch,
        )


@dataclass(slots=True)
class RunningImage:
    """One image of a job, in a batch. `step_count_before`: its steps before the batch."""

    running: RunningJob
    step: Step
    trajectory: Any
    step_count_before: int = field(init=False)

    def __post_init__(self) -> None:
        self.step_count_before = self.trajectory.completed_step_count

    @property
    def row_count(self) -> int:
        """Denoiser rows that it takes."""
        return self.running.shape.rows

    @property
    def wants_preview(self) -> bool:
        """Whether the request asks for one after the step just taken, which is not the last."""
        preview = self.running.job.spec.preview
        done: int = self.trajectory.completed_step_count
        if preview is None or done == self.step_count_before or self.trajectory.finished:
            return False
        return done % preview.interval_step_count == 0


@dataclass(frozen=True, slots=True)
class DecodedTrajectory:
    """Stands for a trajectory whose tensors are no longer needed."""

    step_count: int

    @property
    def completed_step_count(self) -> int:
        """All of them."""
        return self.step_count
