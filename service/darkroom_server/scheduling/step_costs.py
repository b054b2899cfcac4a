"""What a denoising step costs, by key and rows: measured, asked for knees, guessed for new sizes.

Pure: durations come in as arguments.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

#: A larger batch must raise the rows per second by this factor to be worth the longer step.
WORTHWHILE_GAIN = 1.10
#: Weight of a new measurement; small enough that one disturbed step changes little.
NEW_SHARE = 0.2

#: No step takes less, whatever a coarse clock says.
CLOCK_TICK_S = 1e-6

#: Seconds of a step by bucket of rows.
Curve = dict[int, float]


def bucket_of(row_count: int) -> int:
    """The smallest power of two that holds the rows."""
    return 1 << max(0, row_count - 1).bit_length()


@dataclass(slots=True)
class StepCosts:
    """Seconds a step takes by key and bucket of rows; `unit_s` a row while nothing is known."""

    max_rows: int
    unit_s: float = 0.05
    _measured_s: dict[Hashable, Curve] = field(default_factory=dict)
    #: What an image takes besides its steps, by key and part.
    _besides_s: dict[Hashable, dict[str, float]] = field(default_factory=dict)
    #: Curves of keys that have not been measured, scaled from those that were.
    _guessed_s: dict[Hashable, Curve] = field(default_factory=dict)
    _pixel_counts: dict[Hashable, int] = field(default_factory=dict)

    def introduce(self, key: Hashable, pixel_count: int) -> None:
        """Makes a key known; until it is measured it costs what the nearest size does, to scale."""
        if key in self._pixel_counts:
            return
        known = [other for other in self._measured_s if other in self._pixel_counts]
        self._pixel_counts[key] = pixel_count
        if not known or key in self._measured_s:
            return
        nearest = min(known, key=lambda other: abs(self._pixel_counts[other] - pixel_count))
        scale = pixel_count / self._pixel_counts[nearest]
        self._guessed_s[key] = {
            bucket: duration_s * scale for bucket, duration_s in self._measured_s[nearest].items()
        }

    def knows(self, key: Hashable) -> bool:
        """Whether a key's costs rest on a measurement, of its own or of another size."""
        return key in self._measured_s or key in self._guessed_s

    def measured(self) -> Mapping[Hashable, Mapping[int, float]]:
        """All that was measured, by key and bucket."""
        return self._measured_s

    def learn(self, key: Hashable, row_count: int, duration_s: float) -> None:
        """Takes in one measured step."""
        duration_s = max(duration_s, CLOCK_TICK_S)
        curve = self._measured_s.setdefault(key, {})
        bucket = bucket_of(row_count)
        curve[bucket] = _blended(curve.get(bucket), duration_s)

    def learn_besides(self, key: Hashable, part: str, duration_s: float) -> None:
        """Takes in what one image took besides its steps: beginning it, decoding it."""
        parts = self._besides_s.setdefault(key, {})
        parts[part] = _blended(parts.get(part), duration_s)

    def image_s(self, key: Hashable) -> float:
        """Seconds that an image takes besides its steps; 0 while nothing is known."""
        return sum(self._besides_s.get(key, {}).values())

    def step_s(self, key: Hashable, row_count: int) -> float:
        """Seconds of a step; between and beyond what was measured, in proportion to the rows."""
        curve = self._curve(key)
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
        curve = self._curve(key)
        best = 0
        for bucket in sorted(curve):
            if bucket > self.max_rows:
                break
            if not best or pays(curve, best, bucket):
                best = bucket
            else:
                return best
        measured_all = best and bucket_of(self.max_rows) in curve
        return best if measured_all else self.max_rows

    def _curve(self, key: Hashable) -> Curve:
        """What was measured, and the guess for the buckets that were not."""
        return self._guessed_s.get(key, {}) | self._measured_s.get(key, {})


def pays(curve: Curve, fewer: int, more: int) -> bool:
    """Whether the larger of two batches makes enough more rows a second."""
    return more / curve[more] >= WORTHWHILE_GAIN * fewer / curve[fewer]


def _blended(known_s: float | None, duration_s: float) -> float:
    if known_s is None or math.isinf(known_s):
        return duration_s
    return known_s + NEW_SHARE * (duration_s - known_s)
