"""What a denoising step costs, by key and rows: measured, asked for knees, guessed for new sizes.

Pure: durations come in as arguments.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field

#: Doubling the batch must raise throughput (rows/s) by at least this factor.
#: With 1.10, up to a tenth of the best batch's throughput was given up for shorter steps.
WORTHWHILE_GAIN = 1.05
#: Weight of a new measurement; small enough that one disturbed step changes little.
NEW_SHARE = 0.2
#: A step is believed to have taken this many times what was expected at most: what took longer was
#: disturbed, and if it was not, the next ones will say so.
OUTLIER_FACTOR = 2.0
#: After this many other steps of its key what was measured of fewer rows gives way to what more
#: rows take: few rows are rarely run alone under load, and could not correct it.
UNSEEN_STEPS = 16

#: After this many other steps of its key a measurement is old: a batch size that did not pay is
#: tried again, because what was measured may have been a disturbance. That costs little: the
#: one step takes longer, but does as much more.
OLD_AFTER_STEPS = 100
#: After this many steps of its key, what did not fit into memory is tried again: it may have been
#: others that took it. That costs one failed step.
RETRY_AFTER_STEPS = 1000
#: A bucket is measured first by a step that fills this share of it: what the rows that one lacks
#: would have added is not clear.
LEAST_FILL = 0.75
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
    #: Goes up with whatever is learnt.
    version: int = 0
    _measured_s: dict[Hashable, Curve] = field(default_factory=dict)
    #: What an image takes besides its steps, by key and part.
    _besides_s: dict[Hashable, dict[str, float]] = field(default_factory=dict)
    #: Curves of keys that have not been measured, scaled from those that were.
    _guessed_s: dict[Hashable, Curve] = field(default_factory=dict)
    #: What is believed: what was measured, and guesses brought into line with it.
    _curves_s: dict[Hashable, Curve] = field(default_factory=dict)
    #: The same as it is read: more rows never take less.
    _rising_s: dict[Hashable, Curve] = field(default_factory=dict)
    #: Measured steps by key, and how many there were when each bucket had its last.
    _step_counts: dict[Hashable, int] = field(default_factory=dict)
    _last_steps: dict[Hashable, dict[int, int]] = field(default_factory=dict)
    _pixel_counts: dict[Hashable, int] = field(default_factory=dict)
    #: The smallest bucket of a key that ran out of memory, and the key's steps by then.
    _too_large: dict[Hashable, tuple[float, int]] = field(default_factory=dict)

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
        self._curves_s[key] = self._guessed_s[key]
        self._rising_s[key] = _rising(self._curves_s[key])
        self.version += 1

    def knows(self, key: Hashable) -> bool:
        """Whether a key's costs rest on a measurement, of its own or of another size."""
        return key in self._measured_s or key in self._guessed_s

    def measured(self) -> Mapping[Hashable, Mapping[int, float]]:
        """All that was measured, by key and bucket."""
        return self._measured_s

    def by_size(self) -> Iterator[tuple[Hashable, int, Curve]]:
        """The assumed costs of each key, with its pixels; one key for each number of pixels."""
        keys = {pixel_count: key for key, pixel_count in self._pixel_counts.items()}
        for pixel_count, key in sorted(keys.items()):
            if curve := self._rising_s.get(key):
                yield key, pixel_count, curve

    def learn(self, key: Hashable, row_count: int, duration_s: float) -> None:
        """Takes in one measured step: blended with what was known, and bounded by what could be.

        Of a step with fewer rows than its bucket has, what a full one would have taken.
        """
        bucket = bucket_of(row_count)
        measured = self._measured_s.setdefault(key, {})
        known_s = measured.get(bucket)
        # It takes no less than this one did, and no more than in proportion.
        full_s = duration_s * bucket / row_count
        if known_s is not None:
            likely_s = duration_s * known_s / _read(self._curves_s[key], row_count)
            full_s = min(full_s, max(duration_s, likely_s), OUTLIER_FACTOR * known_s)
        elif row_count < LEAST_FILL * bucket and measured:
            return
        else:
            full_s = min(full_s, _longest_s(measured, bucket))
        # A disturbance makes a step longer, never shorter: what is old may have been one.
        if known_s is None or (self._is_old(key, bucket) and full_s < known_s):
            measured[bucket] = max(full_s, CLOCK_TICK_S)
        else:
            measured[bucket] = _blended(known_s, max(full_s, CLOCK_TICK_S))
        if bucket >= self._too_large.get(key, (math.inf, 0))[0]:
            del self._too_large[key]
        self._step_counts[key] = self._step_counts.get(key, 0) + 1
        self._last_steps.setdefault(key, {})[bucket] = self._step_counts[key]
        self._lower_fewer(key, bucket)
        self._curves_s[key] = _in_line(self._guessed_s.get(key, {}), measured)
        self._rising_s[key] = _rising(self._curves_s[key])
        self.version += 1

    def _lower_fewer(self, key: Hashable, bucket: int) -> None:
        """Lowers old measurements of fewer rows that would now be above those of more rows."""
        measured, last = self._measured_s[key], self._last_steps[key]
        for fewer, known_s in measured.items():
            is_unseen = self._step_counts[key] - last.get(fewer, 0) > UNSEEN_STEPS
            if fewer < bucket and is_unseen and known_s > measured[bucket]:
                measured[fewer] = _blended(known_s, measured[bucket])

    def ran_out(self, key: Hashable, row_count: int) -> None:
        """A step of `row_count` rows did not fit into memory: none is larger than half its bucket
        until it is tried again.
        """
        smallest, _ = self._too_large.get(key, (math.inf, 0))
        bucket = min(smallest, bucket_of(row_count))
        self._too_large[key] = (bucket, self._step_counts.get(key, 0))
        self.version += 1

    def learn_besides(self, key: Hashable, part: str, duration_s: float) -> None:
        """Takes in what one image took besides its steps: beginning it, decoding it."""
        parts = self._besides_s.setdefault(key, {})
        known_s = parts.get(part)
        if known_s is not None:
            duration_s = min(duration_s, OUTLIER_FACTOR * max(known_s, CLOCK_TICK_S))
        parts[part] = _blended(known_s, duration_s)
        self.version += 1

    def image_s(self, key: Hashable) -> float:
        """Seconds that an image takes besides its steps; 0 while nothing is known."""
        return sum(self._besides_s.get(key, {}).values())

    def step_s(self, key: Hashable, row_count: int) -> float:
        """Seconds of a step: interpolated between measured rows, in proportion beyond them.

        Fewer rows never take longer than more: where few rows were measured as slower than more
        rows, the more are assumed to be as slow. It errs towards too long.
        """
        curve = self._rising_s.get(key)
        return _read(curve, row_count) if curve else self.unit_s * row_count

    def least_step_s(self, key: Hashable, row_count: int) -> float:
        """Seconds of a step, at most those that were measured for more rows.

        The cost of additional rows is compared with this: a disturbed measurement of few rows must
        not make them seem free.
        """
        more_s = (
            duration_s
            for bucket, duration_s in self._curves_s.get(key, {}).items()
            if bucket >= row_count
        )
        return min((self.step_s(key, row_count), *more_s))

    def knee(self, key: Hashable) -> int:
        """Rows up to which a larger batch pays: past it, it only makes everyone wait longer.

        Where it is not known whether twice the rows pay, those: the next step measures it. The
        limit itself where nothing is known.
        """
        curve = self._curves_s.get(key, {})
        limit_rows = self._limit_rows(key)
        limit = bucket_of(limit_rows)
        bucket = worthwhile(curve, limit)
        more = 2 * bucket
        if more <= limit and (more not in curve or self._is_doubtful(key, more)):
            bucket = more
        return min(bucket, limit_rows)

    def _limit_rows(self, key: Hashable) -> int:
        """Rows that are allowed and, as far as is known, fit into memory."""
        bucket, at_step = self._too_large.get(key, (math.inf, 0))
        if math.isinf(bucket) or self._step_counts.get(key, 0) - at_step > RETRY_AFTER_STEPS:
            return self.max_rows
        return max(1, min(self.max_rows, int(bucket) // 2))

    def _is_doubtful(self, key: Hashable, bucket: int) -> bool:
        """Whether a known cost is a guess or old."""
        return bucket not in self._measured_s.get(key, {}) or self._is_old(key, bucket)

    def _is_old(self, key: Hashable, bucket: int) -> bool:
        last = self._last_steps.get(key, {}).get(bucket)
        return last is not None and self._step_counts[key] - last > OLD_AFTER_STEPS


def _in_line(guessed: Curve, measured: Curve) -> Curve:
    """The measured curve; guesses in between and beyond keep their shape, not their height."""
    believed = dict(measured)
    for bucket, guess_s in guessed.items():
        if bucket not in measured:
            nearest = min(measured, key=lambda known: (abs(known - bucket), known))
            height = measured[nearest] / _read(guessed, nearest)
            believed[bucket] = guess_s * height
    return believed


def _longest_s(measured: Curve, bucket: int) -> float:
    """What a first step of a bucket can have taken at most, by what is known of others.

    No more than one of more rows does; and than those of fewer would in turn, twice over.
    """
    more_s = (duration_s for rows, duration_s in measured.items() if rows > bucket)
    fewer_s = (
        OUTLIER_FACTOR * duration_s * bucket / rows
        for rows, duration_s in measured.items()
        if rows < bucket
    )
    return min((*more_s, *fewer_s), default=math.inf)


def _rising(curve: Curve) -> Curve:
    buckets = sorted(curve)
    return dict(
        zip(buckets, itertools.accumulate((curve[one] for one in buckets), max), strict=True)
    )


def _read(curve: Curve, row_count: int) -> float:
    """Seconds of a step by a curve that is not empty."""
    if row_count in curve:
        return curve[row_count]
    below = [known for known in curve if known < row_count]
    above = [known for known in curve if known > row_count]
    if not (below and above):
        nearest = max(below) if below else min(above)
        return curve[nearest] * row_count / nearest
    fewer, more = max(below), min(above)
    share = (row_count - fewer) / (more - fewer)
    return curve[fewer] + share * (curve[more] - curve[fewer])


def worthwhile(curve: Curve, limit: int) -> int:
    """The smallest bucket up to a limit over which no larger one pays; the limit of none.

    Costs are uneven: one row may be cheap by itself, two cost more than twice that, and four less
    than two. So the next larger one that pays need not be the next.
    """
    best, *others = sorted(bucket for bucket in curve if bucket <= limit) or [limit]
    for more in others:
        if pays(curve, best, more):
            best = more
    return best


def pays(curve: Curve, fewer: int, more: int) -> bool:
    """Whether the larger of two batches makes enough more rows a second, for each doubling."""
    gain: float = WORTHWHILE_GAIN ** math.log2(more / fewer)
    return more / curve[more] >= gain * fewer / curve[fewer]


def _blended(known_s: float | None, duration_s: float) -> float:
    if known_s is None:
        return duration_s
    return known_s + NEW_SHARE * (duration_s - known_s)
