"""A measured figure with its interval, beside its target."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median with its 95% bootstrap interval."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float], *, rounds: int = 2000) -> Estimate:
        """Of independent values, such as one ratio a seed."""
        rng = random.Random(0)
        medians = sorted(
            statistics.median(rng.choices(values, k=len(values))) for _ in range(rounds)
        )
        low, high = medians[int(0.025 * rounds)], medians[int(0.975 * rounds)]
        return cls(statistics.median(values), low, high, len(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One figure beside its target. `estimate` None: there is nothing to measure yet."""

    goal: str
    tier: str
    metric: str
    #: The limit, and whether the figure must be at least (or at most) that; None: for information.
    target: float | None
    at_least: bool
    estimate: Estimate | None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the median keeps to the target; None where there is none."""
        if self.target is None:
            return None
        if self.estimate is None:
            return False
        median = self.estimate.median
        return median >= self.target if self.at_least else median <= self.target
