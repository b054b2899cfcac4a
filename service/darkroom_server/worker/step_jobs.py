"""A job of a model that is run step by step, and one of its images in a batch.

Belong to the loop's thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic

from darkroom_server.backends.base import Encoded, OneTrajectory
from darkroom_server.scheduling.entry import Shape, Step
from darkroom_server.worker.jobs import WorkerJob
from darkroom_server.worker.messages import EarlierWork


@dataclass(slots=True, kw_only=True)
class StepJob(WorkerJob, Generic[Encoded, OneTrajectory]):
    """A job, what was encoded for it, and its images' trajectories once they have begun."""

    shape: Shape
    #: What workers that died had done of it.
    earlier: EarlierWork = field(default_factory=EarlierWork)
    #: There once its first image begins.
    encoded: Encoded = field(init=False)
    #: Of images on their way; those that are decoded leave their number of steps.
    trajectories: dict[int, OneTrajectory] = field(default_factory=dict)
    decoded_step_counts: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.decoded_step_counts |= dict.fromkeys(self.earlier.made_images, self.earlier.step_count)

    @property
    def is_decoded(self) -> bool:
        """Whether all of its images are."""
        return len(self.decoded_step_counts) == len(self.job.spec.seeds)

    @property
    def completed_step_count(self) -> int:
        """Of the images that have begun or not: the mean of all, rounded down."""
        # Copied at once: a command of another thread may ask while an image begins.
        taken = sum(one.completed_step_count for one in list(self.trajectories.values()))
        taken += sum(list(self.decoded_step_counts.values()))
        return taken // len(self.job.spec.seeds)

    @property
    def total_step_count(self) -> int:
        """As those that have begun count them."""
        step_counts = [one.step_count for one in self.trajectories.values()]
        return max(step_counts + list(self.decoded_step_counts.values()))

    def note_decoded(self, image_index: int) -> None:
        """One of its images is; the tensors of its trajectory are no longer needed."""
        self.decoded_step_counts[image_index] = self.trajectories.pop(image_index).step_count


@dataclass(slots=True)
class RunningImage(Generic[Encoded, OneTrajectory]):
    """One image of a job, in a batch. `step_count_before`: its steps before the batch."""

    running: StepJob[Encoded, OneTrajectory]
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
