"""A job while it runs in a worker. Belongs to the loop's thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic

from darkroom_server.backends.base import Encoded, OneTrajectory
from darkroom_server.domain.jobs import Job, JobProgress, Stage
from darkroom_server.scheduling.entry import Shape, Step
from darkroom_server.worker.lanes import JobRecord

#: Progress of a job is reported at most this often.
PROGRESS_INTERVAL_S = 0.1


@dataclass(slots=True)
class RunningJob(Generic[Encoded, OneTrajectory]):
    """A job, what was encoded for it, and its images' trajectories once they have begun."""

    job: Job
    shape: Shape
    record: JobRecord
    #: There once its first image begins.
    encoded: Encoded = field(init=False)
    #: Of images on their way; those that are decoded leave their number of steps.
    trajectories: dict[int, OneTrajectory] = field(default_factory=dict)
    decoded_step_counts: dict[int, int] = field(default_factory=dict)
    ahead_count: int = 0
    reported_step_count: int = 0
    reported_s: float = -PROGRESS_INTERVAL_S

    @property
    def has_begun(self) -> bool:
        """Whether any step of it was taken or is about to be."""
        return bool(self.trajectories or self.decoded_step_counts)

    @property
    def is_decoded(self) -> bool:
        """Whether all of its images are."""
        return len(self.decoded_step_counts) == len(self.job.spec.seeds)

    @property
    def completed_step_count(self) -> int:
        """Steps that the job's images have taken, on the average, rounded down."""
        taken = sum(one.completed_step_count for one in self.trajectories.values())
        taken += sum(self.decoded_step_counts.values())
        return taken // len(self.job.spec.seeds)

    def note_decoded(self, image_index: int) -> None:
        """One of its images is; the tensors of its trajectory are no longer needed."""
        self.decoded_step_counts[image_index] = self.trajectories.pop(image_index).step_count

    def news(self, now_s: float) -> JobProgress | None:
        """Progress not reported yet, unless the last report was a moment ago; the end always."""
        done = self.completed_step_count
        if done <= self.reported_step_count:
            return None
        step_counts = [one.step_count for one in self.trajectories.values()]
        total = max(step_counts + list(self.decoded_step_counts.values()))
        if done < total and now_s - self.reported_s < PROGRESS_INTERVAL_S:
            return None
        self.reported_step_count, self.reported_s = done, now_s
        return JobProgress(stage=Stage.DENOISE, completed_step_count=done, total_step_count=total)


@dataclass(slots=True)
class RunningImage(Generic[Encoded, OneTrajectory]):
    """One image of a job, in a batch. `step_count_before`: its steps before the batch."""

    running: RunningJob[Encoded, OneTrajectory]
    step: Step
    trajectory: OneTrajectory
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
        done = self.trajectory.completed_step_count
        if preview is None or done == self.step_count_before or self.trajectory.finished:
            return False
        return done % preview.interval_step_count == 0
