"""A job while it runs in a worker. Belongs to the loop's thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from darkroom_server.domain.jobs import Job, JobProgress, Stage
from darkroom_server.scheduling.step_batcher import Step
from darkroom_server.worker.lanes import JobRecord


@dataclass(slots=True)
class RunningJob:
    """A job, what was encoded for it, and its images' trajectories once they have begun."""

    job: Job
    record: JobRecord
    encoded: Any = None
    trajectories: dict[int, Any] = field(default_factory=dict)
    decoded_count: int = 0
    ahead_count: int = 0

    @property
    def has_begun(self) -> bool:
        """Whether any step of it was taken or is about to be."""
        return bool(self.trajectories)

    @property
    def is_decoded(self) -> bool:
        """Whether all of its images are."""
        return self.decoded_count == len(self.job.spec.seeds)

    def news(self) -> JobProgress | None:
        """Progress not reported yet: steps that all images of the job have taken."""
        if len(self.trajectories) < len(self.job.spec.seeds):
            return None
        least = min(one.completed_step_count for one in self.trajectories.values())
        if least <= self.record.reported_step_count:
            return None
        self.record.reported_step_count = least
        total = max(one.step_count for one in self.trajectories.values())
        return JobProgress(stage=Stage.DENOISE, completed_step_count=least, total_step_count=total)


@dataclass(frozen=True, slots=True)
class RunningImage:
    """One image of a job, in a batch."""

    running: RunningJob
    step: Step
    trajectory: Any
    row_count: int


@dataclass(frozen=True, slots=True)
class DecodedTrajectory:
    """Stands for a trajectory whose tensors are no longer needed."""

    step_count: int

    @property
    def completed_step_count(self) -> int:
        """All of them."""
        return self.step_count
