"""What the step batcher knows of a job and of its images."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

from darkroom_server.domain.jobs import Job
from darkroom_server.scheduling.pace import Load


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the batcher knows of a job's images: all of one job are alike.

    `key`: images with equal keys may share a step. `rows`: denoiser rows of one image.
    `evaluations`: denoiser evaluations of one image. `pixel_count`: its size, for guessing costs.
    `exact`: it shares only steps that were proved to change nothing.
    """

    key: Hashable
    rows: int
    evaluations: int
    pixel_count: int = 1
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One denoising step of one image."""

    job_id: str
    image_index: int


@dataclass(slots=True, eq=False)
class Entry:
    """A job in the batcher. `sort_s`: the time it is ordered by; `number`: which came first."""

    job: Job
    shape: Shape
    sort_s: float
    number: int
    #: Evaluations left by image; an image leaves when it is finished.
    remaining: dict[int, int]
    #: Whether its deadline is kept, whatever else comes.
    is_promised: bool = False
    #: Time before its deadline by which it is to be done, in case something is disturbed.
    reserve_s: float = 0.0
    #: Whether it can no longer make its deadline.
    is_lost: bool = False
    #: Device time left at full batches, as it was counted last.
    work_s: float = 0.0

    @property
    def rank(self) -> tuple[float, ...]:
        """By priority, then those that can still make it, then by deadline, then by arrival."""
        return (-self.job.spec.priority, self.is_lost, self.sort_s, self.number)

    @property
    def due_s(self) -> float:
        """When it is to be done, if that is promised."""
        if self.job.deadline_s is None or not self.is_promised:
            return math.inf
        return self.job.deadline_s - self.reserve_s

    @property
    def group(self) -> Hashable:
        """What may share steps: the key, apart for images that share only what was proved."""
        return (self.shape.key, self.shape.exact)

    def image_order(self, *, side_by_side: bool) -> list[int]:
        """Its images, the next to take a step first.

        Where steps are shared they advance side by side; otherwise one is made before the next
        begins, so that it is there sooner.
        """
        sign = -1 if side_by_side else 1
        return sorted(self.remaining, key=lambda index: (sign * self.remaining[index], index))

    def begins_or_ends(self, index: int) -> bool:
        """Whether more than a step is due of one of its images: it is made ready, or decoded."""
        return self.remaining[index] in (1, self.shape.evaluations)

    def load(self, running: frozenset[Step]) -> Load:
        """Work left once the steps that run now are taken."""
        if not running:
            return Load(rows=self.shape.rows, evaluations=tuple(self.remaining.values()))
        left = (
            count - (Step(self.job.job_id, index) in running)
            for index, count in self.remaining.items()
        )
        return Load(rows=self.shape.rows, evaluations=tuple(one for one in left if one > 0))
