"""What a denoising step costs, by key and rows: learnt while serving, and asked for knees.

Pure: durations come in as arguments.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

#: A larger batch must raise the rows per second by this factor to be worth the longer step.
WORTHWHILE_GAIN = 1.10
#: Weight of a new measurement; small enough that one disturbed step changes little.
NEW_SHARE = 0.2


def bucket_of(row_count: int) -> int:
    """The smallest power of two that holds the rows."""
    return 1 << max(0, row_count - 1).bit_length()


@dataclass(slots=True)
class StepCosts:
    """Seconds a step takes by key and bucket of rows; `unit_s` a row before any is measured."""

    max_rows: int
    unit_s: float = 0.05
    _measured_s: dict[Hashable, dict[int, float]] = field(default_factory=dict)

    def learn(self, key: Hashable, row_count: int, duration_s: float) -> None:
        """Takes in one measured step."""
        curve = self._measured_s.setdefault(key, {})
        bucket = bucket_of(row_count)
        known_s = curve.get(bucket)
        curve[bucket] = (
            duration_s if known_s is None else known_s + NEW_SHARE * (duration_s - known_s)
        )

    def step_s(self, key: Hashable, row_count: int) -> float:
        """Seconds of a step; between and beyond what was measured, in proportion to the rows."""
        curve = self._measured_s.get(key)
        bucket = bucket_of(row_count)
        if not curve:
            return self.unit_s * bucket
        if bucket in curve:
            return curve[bucket]
        nearest = min(curve, key=lambda known: (abs(known - bucket), known))
        return curve[nearest] * bucket / nearest

    def knee(self, key: Hashable) -> int:
        """Rows up to which a larger batch pays: past it, it only makes everyone wait longer.

        Without measurements, the limit itself: the first steps then measure it.
        """
        curve = self._measured_s.get(key, {})
        best = 0
        for bucket in sorted(curve):
            if bucket > self.max_rows:
                break
            if not best or bucket / curve[bucket] >= WORTHWHILE_GAIN * best / curve[best]:
                best = bucket
            else:
                return best
        measured_all = best and bucket_of(self.max_rows) in curve
        return best if measured_all else self.max_rows
