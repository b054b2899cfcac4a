"""A bound on when a job will be done, in addition to its estimate: nine of ten jobs meet it.

The error of an estimate depends on what arrives after it. The bound is the estimate multiplied by a
quantile of the recent ratios of actual to estimated time. The quantile's level rises after each
bound that was exceeded and falls after each that was met, in proportions that balance where one of
ten is exceeded; so the bound also holds while the load changes and recent ratios are not enough
(adaptive conformal inference; Gibbs and Candès, 2021). A bound counts as exceeded when its time has
passed, not only when its job is done.

Jobs that begin immediately and jobs that wait have separate ratios, and so do jobs with and without
a deadline, and short and long ones: all of these are wrong by different factors. Pure: times are
arguments.
"""

from __future__ import annotations

import bisect
import heapq
import math
from collections import deque
from dataclasses import dataclass, field

#: Of the bounds, those that are to be kept.
KEPT_SHARE = 0.9
#: Step by which the outcome of one bound moves the level, times how unexpected it was.
RATE = 0.02
LOWEST_LEVEL, HIGHEST_LEVEL = 0.5, 0.995
#: Jobs of a kind that are remembered, and what is taken of them before there are any.
RECENT_COUNT = 256
FIRST_RATIOS = (1.0, 1.0, 1.0, 1.1, 1.1, 1.2, 1.3, 1.5, 2.0)
#: Estimates are of one length from one over this factor to the next.
LENGTH_FACTOR = 4.0
SHORTEST_S, LONGEST_S = 1e-3, 1e6
#: Highest ratio of a time to its estimate that counts: estimates may be almost 0.
LARGEST_RATIO = 100.0


#: Whether a job waits, whether it has a deadline, and the length of its estimate.
_Likeness = tuple[bool, bool, int]


@dataclass(slots=True)
class _Kind:
    """Jobs that are alike in how they are estimated."""

    level: float = KEPT_SHARE
    recent: deque[float] = field(default_factory=lambda: deque(FIRST_RATIOS))
    ordered: list[float] = field(default_factory=lambda: sorted(FIRST_RATIOS))

    def ratio(self) -> float:
        """What times the estimate is the bound; at least the estimate itself."""
        place = min(len(self.ordered) - 1, int(self.level * (len(self.ordered) + 1)))
        return max(1.0, self.ordered[place])

    def copy(self) -> _Kind:
        """What is assumed of a kind like it."""
        return _Kind(self.level, deque(self.recent), list(self.ordered))

    def note(self, ratio: float) -> None:
        """Notes the ratio of a job's actual time to its estimate."""
        ratio = min(ratio, LARGEST_RATIO)
        self.recent.append(ratio)
        bisect.insort(self.ordered, ratio)
        if len(self.recent) > RECENT_COUNT:
            oldest = self.recent.popleft()
            del self.ordered[bisect.bisect_left(self.ordered, oldest)]

    def judge(self, *, is_kept: bool) -> None:
        """A bound was kept, or broken."""
        self.level += RATE * (KEPT_SHARE - is_kept)
        self.level = min(HIGHEST_LEVEL, max(LOWEST_LEVEL, self.level))


@dataclass(frozen=True, slots=True)
class _Bound:
    kind: _Kind
    at_s: float
    estimated_s: float
    until_s: float


@dataclass(slots=True)
class LikelyBounds:
    """The bounds of one worker's jobs; each job gets one when it arrives."""

    _kinds: dict[_Likeness, _Kind] = field(default_factory=dict)
    _bounds: dict[str, _Bound] = field(default_factory=dict)
    _broken: set[str] = field(default_factory=set)
    _due: list[tuple[float, str]] = field(default_factory=list)

    def give(
        self, job_id: str, estimated_s: float, now_s: float, *, waits: bool, has_deadline: bool
    ) -> float:
        """Seconds within which a job that has just come will likely be done."""
        self._judge_due(now_s)
        kind = self._kind(waits, has_deadline, estimated_s)
        bound_s = kind.ratio() * estimated_s
        self._bounds[job_id] = _Bound(kind, now_s, max(1e-9, estimated_s), now_s + bound_s)
        heapq.heappush(self._due, (now_s + bound_s, job_id))
        if len(self._due) > 2 * len(self._bounds) + RECENT_COUNT:
            # Those that ended long before their time are waited for no more.
            self._due = sorted((one.until_s, job_id) for job_id, one in self._bounds.items())
        return bound_s

    def left_s(self, job_id: str, estimated_s: float, now_s: float) -> float:
        """The bound of a job that still waits, from now on: what is left of it, or wider."""
        bound = self._bounds.get(job_id)
        if bound is None:
            return estimated_s
        return max(estimated_s, bound.until_s - now_s)

    def ended(self, job_id: str, now_s: float) -> None:
        """A job is done. Unknown ids are ignored."""
        self._judge_due(now_s)
        bound = self._bounds.pop(job_id, None)
        if bound is None:
            return
        bound.kind.note((now_s - bound.at_s) / bound.estimated_s)
        if job_id in self._broken:
            self._broken.remove(job_id)
        else:
            bound.kind.judge(is_kept=True)

    def forget(self, job_id: str) -> None:
        """A job will not be done: it says nothing of the others. Unknown ids are ignored."""
        self._bounds.pop(job_id, None)
        self._broken.discard(job_id)

    def _kind(self, waits: bool, has_deadline: bool, estimated_s: float) -> _Kind:
        """The jobs like this one; a length that is new begins as the nearest one is."""
        length = round(math.log(min(LONGEST_S, max(SHORTEST_S, estimated_s)), LENGTH_FACTOR))
        likeness = (waits, has_deadline, length)
        if likeness not in self._kinds:
            known = [one for one in self._kinds if one[:2] == likeness[:2]]
            nearest = min(known, key=lambda one: abs(one[2] - length), default=None)
            self._kinds[likeness] = _Kind() if nearest is None else self._kinds[nearest].copy()
        return self._kinds[likeness]

    def _judge_due(self, now_s: float) -> None:
        while self._due and self._due[0][0] < now_s:
            _, job_id = heapq.heappop(self._due)
            if (bound := self._bounds.get(job_id)) is not None and job_id not in self._broken:
                bound.kind.judge(is_kept=False)
                self._broken.add(job_id)
