"""How long jobs are, by themselves, as they come."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Weight of a new job in what is typical.
TYPICAL_SHARE = 0.05
#: No job is shorter.
LEAST_S = 1e-6


@dataclass(slots=True)
class TypicalJob:
    """Two means, in which what came long ago counts less.

    `mean_s`: of the times; None before the first. `usual_s`: of their orders of magnitude, which
    one job of hundreds of times the others' length hardly moves; 0 before the first.
    """

    mean_s: float | None = None
    _log: float = 0.0
    _count: int = 0

    @property
    def usual_s(self) -> float:
        """The length of most jobs."""
        return math.exp(self._log) if self._count else 0.0

    def note(self, alone_s: float) -> None:
        """Notes a job that takes `alone_s` by itself."""
        if self.mean_s is None:
            self.mean_s = alone_s
        self.mean_s += TYPICAL_SHARE * (alone_s - self.mean_s)
        self._count += 1
        share = max(TYPICAL_SHARE, 1 / self._count)
        self._log += share * (math.log(max(alone_s, LEAST_S)) - self._log)
