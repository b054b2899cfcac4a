"""When jobs will be done: their steps played forward in order, and what may still overtake them.

Pure: times come in as arguments.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from darkroom_server.domain.jobs import Priority
from darkroom_server.scheduling.pace import Load, Pace
from darkroom_server.scheduling.play import Player, play

#: Images that are played step by step; those behind them are counted at full batches.
MAX_PLAYED_IMAGES = 64
#: Recent jobs, from which arrivals are predicted. Their work varies so much that the rate of 64
#: would be off by a fifth.
RECENT_COUNT = 256
#: With fewer than these nothing is expected.
LEAST_COUNT = 16
#: Arrivals expected, in parts of the recent ones. Above 1, because one that comes too late costs
#: its caller all, and one that comes early nothing: see `docs/adr/0008-admission-and-order.md`.
EXPECTED_SHARE = 1.2
#: Recent requests, by which room is left to higher priorities.
DEMAND_COUNT = 64
#: Of the time before a deadline, the part that is left to higher priorities at most.
MOST_LEFT_SHARE = 0.5


def finish_times_s(loads: Sequence[Load], pace: Pace) -> list[float]:
    """Seconds until each job is done, the first in line going first, if nothing else runs."""
    image_count = played_count = 0
    for load in loads:
        image_count += len(load.evaluations)
        if played_count and image_count > MAX_PLAYED_IMAGES:
            break
        played_count += 1
    played = [Player(group=None, pace=pace, load=load) for load in loads[:played_count]]
    course = play(played, 0.0)
    done_s, now_s = list(course.done_s), course.end_s
    for load in loads[played_count:]:
        now_s += pace.work_s(load)
        done_s.append(now_s)
    return done_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A job that came: when, how soon after it its place in the order is, and its work."""

    at_s: float
    allowed_s: float
    work_s: float
    priority: Priority = Priority.NORMAL


@dataclass(slots=True)
class RecentArrivals:
    """Recent arrivals, from which the rate of future ones is estimated."""

    _recent: deque[Arrival] = field(default_factory=deque)
    #: By priority, how soon after it each one's place was, and its work: in order.
    _places: dict[Priority, list[tuple[float, float]]] = field(
        default_factory=lambda: {priority: [] for priority in Priority}
    )

    def note(self, arrival: Arrival) -> None:
        """A job was taken in."""
        self._recent.append(arrival)
        insort(self._places[arrival.priority], (arrival.allowed_s, arrival.work_s))
        if len(self._recent) > RECENT_COUNT:
            oldest = self._recent.popleft()
            places = self._places[oldest.priority]
            del places[bisect_left(places, (oldest.allowed_s, oldest.work_s))]

    def delayed_s(
        self, done_s: float, *, now_s: float, place_s: float, priority: Priority = Priority.NORMAL
    ) -> float:
        """Seconds until a job is done that would be in `done_s`, if nothing else arrived.

        `place_s`: the time by which it is ordered; arrivals with an earlier one overtake it, and
        so does every higher `priority`, but no lower one.
        Solves `t = done_s + work that overtakes it within t`: each kind of arrival overtakes it
        until `t`, or until its own place would be behind. Recent arrivals are expected to
        continue for as long as they have been observed: a burst of seconds is not extended.
        """
        if len(self._recent) < LEAST_COUNT:
            return done_s
        # Arrivals in a shorter time than the job takes are not extrapolated.
        window_s = max(now_s - self._recent[0].at_s, done_s)
        if window_s <= 0:
            return done_s
        share, left_s = EXPECTED_SHARE / window_s, place_s - now_s
        mine = self._places[priority]
        overtaking = mine[: bisect_left(mine, (left_s,))]
        higher_rate = share * sum(
            work_s for other in Priority if other > priority for _, work_s in self._places[other]
        )
        rate, ended_s = higher_rate + share * sum(work_s for _, work_s in overtaking), done_s
        for allowed_s, work_s in reversed(overtaking):
            until_s = min(window_s, left_s - allowed_s)
            if rate < 1 and ended_s <= until_s * (1 - rate):
                return ended_s / (1 - rate)
            # It goes on for longer than this kind may overtake it.
            ended_s += share * work_s * until_s
            rate -= share * work_s
        if higher_rate < 1 and ended_s <= window_s * (1 - higher_rate):
            return ended_s / (1 - higher_rate)
        return ended_s + higher_rate * window_s


@dataclass(slots=True)
class RecentDemand:
    """Recent demand, admitted or refused: the reserve for higher priorities is as large."""

    _asked: deque[tuple[float, Priority, float]] = field(default_factory=deque)
    _work_s: dict[Priority, float] = field(default_factory=lambda: dict.fromkeys(Priority, 0.0))

    def note(self, at_s: float, priority: Priority, work_s: float) -> None:
        """A job was asked for."""
        self._asked.append((at_s, priority, work_s))
        self._work_s[priority] += work_s
        if len(self._asked) > DEMAND_COUNT:
            _, oldest, oldest_s = self._asked.popleft()
            self._work_s[oldest] = max(0.0, self._work_s[oldest] - oldest_s)

    def margin(self, priority: Priority, *, now_s: float, within_s: float) -> float:
        """How many times as long all may take that is promised to a priority within a time, for
        what higher ones ask for to have room beside it.
        """
        higher_s = sum(self._work_s[other] for other in Priority if other > priority)
        if not higher_s:
            return 1.0
        # Arrivals in a shorter time are not extrapolated.
        window_s = max(now_s - self._asked[0][0], within_s)
        share = EXPECTED_SHARE * higher_s / window_s if window_s > 0 else 1.0
        return 1 / (1 - min(MOST_LEFT_SHARE, share))
