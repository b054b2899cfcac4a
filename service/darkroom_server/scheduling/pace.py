"""How fast images go: the work of a job, and what a group of like images can do a second."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Work of one job: rows of one image, and the evaluations that each of its images has left."""

    rows: int
    evaluations: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast the images of one group go.

    `room`: rows of a full batch; 0: images run one by one. `step_s` of a number of rows; `image_s`:
    what an image takes besides its steps. `longest`: how many of the images that have room may
    share a step, from the first on, by their rows; None: all of them.
    """

    room: int
    step_s: Callable[[int], float]
    image_s: float
    longest: Callable[[Sequence[int]], int] | None = None

    def shared_count(self, image_rows: Sequence[int]) -> int:
        """How many of the images that have room share a step, from the first on."""
        return len(image_rows) if self.longest is None else self.longest(image_rows)

    def side_by_side(self, rows: int, most: int | None = None) -> int:
        """Images of `rows` rows that share a step, `most` at most."""
        count = max(1, self.room // rows)
        return self.shared_count([rows] * (count if most is None else min(count, most)))

    def work_s(self, load: Load) -> float:
        """Device time of a job at full batches."""
        full = load.rows * self.side_by_side(load.rows)
        row_evaluations = load.rows * sum(load.evaluations)
        return row_evaluations * self.step_s(full) / full + len(load.evaluations) * self.image_s

    def least_s(self, load: Load) -> float:
        """Time that a job takes when its steps are shared with nothing else."""
        images_s = len(load.evaluations) * self.image_s
        if not any(load.evaluations):
            return images_s
        count = self.side_by_side(load.rows, len(load.evaluations))
        step_count = least_step_count(load.evaluations, count)
        # Not all steps have as many images where one has more left than the others.
        image_count, fuller_count = divmod(sum(load.evaluations), step_count)
        steps_s = (step_count - fuller_count) * self.step_s(load.rows * image_count)
        if fuller_count:
            steps_s += fuller_count * self.step_s(load.rows * (image_count + 1))
        return steps_s + images_s


def least_step_count(evaluations: Collection[int], side_by_side: int) -> int:
    """Steps that images need at least, where `side_by_side` of them may share one."""
    if not evaluations:
        return 0
    return max(max(evaluations), math.ceil(sum(evaluations) / side_by_side))
