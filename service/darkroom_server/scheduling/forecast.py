"""When jobs will be done: their steps played forward in order, and what may still overtake them.

Pure: times come in as arguments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

#: Images that are played step by step; those behind them are counted at full batches.
MAX_PLAYED_IMAGES = 256
#: Jobs too wide for the room left in a batch that are looked past for one that fits.
MAX_LOOKED_PAST = 16
#: Jobs that came last, from which it is told what will come.
RECENT_COUNT = 64
#: With fewer than these nothing is expected.
LEAST_COUNT = 16
#: Arrivals expected, in parts of the recent ones. Above 1, because one that comes too late costs
#: its caller all, and one that comes early nothing: see `docs/adr/0008-admission-and-order.md`.
EXPECTED_SHARE = 1.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Work of one job: rows of one image, and the evaluations that each of its images has left."""

    rows: int
    evaluations: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast the images of one group go.

    `room`: rows of a full batch; 0: images run one by one. `step_s` of so many rows; `image_s`:
    what an image takes besides its steps.
    """

    room: int
    step_s: Callable[[int], float]
    image_s: float

    def work_s(self, load: Load) -> float:
        """Device time of a job at full batches."""
        full = max(load.rows, self.room)
        row_evaluations = load.rows * sum(load.evaluations)
        return row_evaluations * self.step_s(full) / full + len(load.evaluations) * self.image_s


@dataclass(slots=True)
class _Waiting:
    """A job that is played: evaluations left of each image, the most first."""

    index: int
    rows: int
    left: list[int]


def finish_times_s(loads: Sequence[Load], pace: Pace) -> list[float]:
    """Seconds until each job is done, the first in line going first, if nothing else runs."""
    finished_s = [0.0] * len(loads)
    waiting: list[_Waiting] = []
    image_count = played_count = 0
    for index, load in enumerate(loads):
        image_count += len(load.evaluations)
        if waiting and image_count > MAX_PLAYED_IMAGES:
            break
        played_count += 1
        if load.evaluations:
            waiting.append(_Waiting(index, load.rows, sorted(load.evaluations, reverse=True)))
    now_s = 0.0
    while waiting:
        taken, row_count = _batch(waiting, pace.room)
        # Images of one job that do not all fit take turns, step by step.
        takes_turns = any(count < len(one.left) for one, count in taken)
        step_count = 1 if takes_turns else min(one.left[-1] for one, _ in taken)
        now_s += step_count * pace.step_s(row_count)
        for one, count in taken:
            stepped = [left - step_count for left in one.left[:count]]
            now_s += stepped.count(0) * pace.image_s
            one.left = sorted((*filter(None, stepped), *one.left[count:]), reverse=True)
            if not one.left:
                finished_s[one.index] = now_s
        waiting = [one for one in waiting if one.left]
    for index in range(played_count, len(loads)):
        now_s += pace.work_s(loads[index])
        finished_s[index] = now_s
    return finished_s


def _batch(waiting: Sequence[_Waiting], room: int) -> tuple[list[tuple[_Waiting, int]], int]:
    """The jobs whose images come first and fit, how many of each, and the rows in all."""
    room = max(room, waiting[0].rows)
    taken: list[tuple[_Waiting, int]] = []
    row_count = looked_past_count = 0
    for one in waiting:
        count = min(len(one.left), (room - row_count) // one.rows)
        if count:
            taken.append((one, count))
            row_count += count * one.rows
        else:
            looked_past_count += 1
        if row_count == room or looked_past_count == MAX_LOOKED_PAST:
            break
    return taken, row_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A job that came: when, how soon after it its place in the order is, and its work."""

    at_s: float
    allowed_s: float
    work_s: float


@dataclass(slots=True)
class RecentArrivals:
    """What came lately, and so may be expected to go on coming."""

    _recent: deque[Arrival] = field(default_factory=lambda: deque(maxlen=RECENT_COUNT))

    def note(self, arrival: Arrival) -> None:
        """A job was taken in."""
        self._recent.append(arrival)

    def delayed_s(self, done_s: float, *, now_s: float, place_s: float) -> float:
        """Seconds until a job is done that would be in `done_s`, were nothing else to come.

        `place_s`: the time by which it is ordered; what comes with an earlier one overtakes it.
        Solves `t = done_s + work that overtakes it within t` from below. What came lately is
        expected for as long as it has been seen: a burst of seconds does not fill five minutes.
        """
        if len(self._recent) < LEAST_COUNT:
            return done_s
        # What came in a shorter time than the job takes is not taken to come again and again.
        window_s = max(now_s - self._recent[0].at_s, done_s)
        rate = EXPECTED_SHARE / window_s if window_s > 0 else 0.0
        found_s = done_s
        for _ in range(RECENT_COUNT):
            before_s, found_s = found_s, done_s
            for one in self._recent:
                overtaking_s = min(before_s, window_s, place_s - now_s - one.allowed_s)
                found_s += rate * one.work_s * max(0.0, overtaking_s)
            if found_s - before_s < 0.01 * found_s:
                break
        return found_s
