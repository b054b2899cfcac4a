"""What was promised, and whether it can be kept.

The jobs whose deadlines are promised are played forward as if there were no others, the earliest
deadline first. What they have to spare then is what everything else may take: a larger batch than
they need, a step of another shape, a job that comes. Pure: times come in as arguments.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from darkroom_server.domain.jobs import Priority
from darkroom_server.scheduling.entry import Entry, Shape, Step
from darkroom_server.scheduling.pace import Pace
from darkroom_server.scheduling.play import Player, Sharing, play
from darkroom_server.scheduling.ranking import Rank, TimedRanking

#: Promised jobs, and images of them, that are played batch by batch; the rest is counted at full
#: batches, one after another.
MAX_PLAYED_JOBS, MAX_PLAYED_IMAGES = 32, 64


@dataclass(frozen=True, slots=True)
class _Promise:
    """A promised job, by its deadline."""

    entry: Entry

    @property
    def deadline_s(self) -> float:
        deadline_s = self.entry.job.deadline_s
        return math.inf if deadline_s is None else deadline_s

    @property
    def rank(self) -> Rank:
        return (self.deadline_s, self.entry.number)

    @property
    def work_s(self) -> float:
        return self.entry.work_s

    @property
    def due_s(self) -> float:
        return self.entry.due_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What becomes of the promises if nothing else runs; times are on the batcher's clock.

    `spare_s`: time that may be lost before one of those played is broken; negative when one is as
    it stands, infinite without any. `played`: those that were, and when each is done. `rest_s`:
    when those behind them begin, and `last` the rank of the last that was played.
    `chosen`: what the next batch must have, how many images of each, for `step_count` steps of
    `row_count` rows.
    """

    spare_s: float
    played: Mapping[Entry, float]
    rest_s: float
    last: Rank
    chosen: Mapping[Entry, int]
    row_count: int
    step_count: int


#: With more promised jobs than these none is taken in for which steps would have to be shared less:
#: under load what is given up so is worth more than the one job.
FEW_COUNT = 3
#: A promise is broken by a job that makes it take more than the time that is left, by these parts.
MARGINS = (1.1, 1.03)


def _is_broken(left_s: float, before_s: float, after_s: float, margins: Sequence[float]) -> bool:
    return any(margin * before_s <= left_s < margin * after_s for margin in margins)


#: By priority and time until the deadline.
LeftMargin = Callable[[Priority, float], float]


def _margins(
    promised: Priority, coming: Priority, left_s: float, left_margin: LeftMargin
) -> Sequence[float]:
    """What must not be lost of a promise's room by a job that comes."""
    if coming > promised:
        return MARGINS
    return (MARGINS[0] * left_margin(promised, left_s), *MARGINS)


#: Behind all ranks.
_END: Rank = (math.inf, math.inf)


class Promises:
    """The promised jobs of a batcher. `pace_of` gives the present speed of a shape."""

    def __init__(self, pace_of: Callable[[Shape], Pace]) -> None:
        self._pace_of = pace_of
        self._held: TimedRanking[_Promise] = TimedRanking()
        self._by_id: dict[str, _Promise] = {}
        #: What was played last, and for what.
        self._found: tuple[tuple[float, frozenset[Step]], Outlook] | None = None

    def __len__(self) -> int:
        return len(self._held)

    def add(self, entry: Entry) -> None:
        """A promise is given; only to a job with a deadline."""
        promise = _Promise(entry)
        self._by_id[entry.job.job_id] = promise
        self._held.add(promise)
        self._forget(promise)

    def remove(self, entry: Entry) -> bool:
        """It is kept, broken or no longer wanted; whether there was one."""
        promise = self._by_id.pop(entry.job.job_id, None)
        if promise is not None:
            self._held.remove(promise)
            self._forget(promise)
        return promise is not None

    def touch(self, entry: Entry) -> None:
        """The work of an entry is another."""
        if (promise := self._by_id.get(entry.job.job_id)) is not None:
            self._held.touch(promise)

    def _forget(self, promise: _Promise) -> None:
        """Forgets what was played, if a promise is among it."""
        if self._found is not None and promise.rank <= self._found[1].last:
            self._found = None

    def front(self) -> list[Entry]:
        """Those that are played: the earliest deadlines."""
        entries: list[Entry] = []
        image_count = 0
        for promise in itertools.islice(self._held, MAX_PLAYED_JOBS):
            image_count += len(promise.entry.remaining)
            if entries and image_count > MAX_PLAYED_IMAGES:
                break
            entries.append(promise.entry)
        return entries

    def outlook(self, begin_s: float, running: frozenset[Step]) -> Outlook:
        """Plays the promises from a time on; what was played for the same is not played again."""
        asked = (begin_s, running)
        if self._found is None or self._found[0] != asked:
            self._found = (asked, self._best(self.front(), begin_s, running, Sharing))
        return self._found[1]

    def spare_s(self, outlook: Outlook) -> float:
        """Time that may be lost before any promise is broken."""
        behind_s = (latest_s for latest_s, _ in self._held.latest_starts_s(outlook.last))
        return min(outlook.spare_s, min(behind_s, default=math.inf) - outlook.rest_s)

    def changed(self) -> None:
        """Steps were taken, or cost something else."""
        self._found = None

    def with_job(
        self,
        before: Outlook,
        job: Entry,
        begin_s: float,
        running: frozenset[Step],
        left_margin: LeftMargin,
    ) -> tuple[float, float | None]:
        """When one more promised job would be done, and the last deadline that it would break.

        `left_margin`: of promises to a priority within a time, for what is left to higher ones;
        a job of a higher priority may take that.
        """
        rank = _Promise(job).rank
        if rank > before.last:
            rest_s = before.rest_s + self._work_between_s(before.last, rank)
            done_s = rest_s + self._pace_of(job.shape).least_s(job.load(running))
            return done_s, max(self._broken_rest(rank, rest_s, rest_s + job.work_s), default=None)
        entries = sorted((*before.played, job), key=lambda one: _Promise(one).rank)
        ways = Sharing if len(entries) <= FEW_COUNT else (Sharing.FULL,)
        after = self._best(entries, begin_s, running, ways)
        broken = [
            _Promise(entry).deadline_s
            for entry, done_s in after.played.items()
            if entry is not job
            and _is_broken(
                left_s := _Promise(entry).deadline_s - begin_s,
                before.played[entry] - begin_s,
                done_s - begin_s,
                _margins(entry.job.spec.priority, job.job.spec.priority, left_s, left_margin),
            )
        ]
        broken += self._broken_rest(before.last, before.rest_s, after.rest_s)
        return after.played[job], max(broken, default=None)

    def broken_until_s(self, before: Outlook, job: Entry) -> float | None:
        """The last deadline that is missed when a job without one takes its time before it.

        That is its share of full batches, where it fits beside what is promised, and else all.
        """
        pace, from_s = self._pace_of(job.shape), job.sort_s
        row_count = before.row_count + job.shape.rows
        lost_s = job.work_s
        if before.chosen and row_count > pace.room:
            lost_s = pace.least_s(job.load(frozenset()))
        broken = [
            deadline_s
            for entry, done_s in before.played.items()
            if (deadline_s := _Promise(entry).deadline_s) > from_s
            and done_s <= entry.due_s < done_s + lost_s
        ]
        after = max(before.last, (from_s, math.inf))
        begin_s = before.rest_s + self._work_between_s(before.last, after)
        broken += self._broken_rest(after, begin_s, begin_s + lost_s)
        return max(broken, default=None)

    def _best(
        self,
        entries: Sequence[Entry],
        begin_s: float,
        running: frozenset[Step],
        ways: Iterable[Sharing],
    ) -> Outlook:
        """The first way of sharing steps that keeps all promises, or that which comes closest."""
        found: Outlook | None = None
        for sharing in ways:
            outlook = self._played(entries, begin_s, running, sharing)
            if found is None or outlook.spare_s > found.spare_s:
                found = outlook
            if found.spare_s >= 0:
                break
        assert found is not None
        return found

    def _played(
        self, entries: Sequence[Entry], begin_s: float, running: frozenset[Step], sharing: Sharing
    ) -> Outlook:
        players = [
            Player(
                group=entry.group,
                pace=self._pace_of(entry.shape),
                load=entry.load(running),
                due_s=entry.due_s,
            )
            for entry in entries
        ]
        course = play(players, begin_s, sharing=sharing)
        played = dict(zip(entries, course.done_s, strict=True))
        is_all = len(entries) >= len(self._held)
        return Outlook(
            spare_s=min((one.due_s - done_s for one, done_s in played.items()), default=math.inf),
            played=played,
            rest_s=course.end_s,
            last=_END if is_all else _Promise(entries[-1]).rank,
            chosen={entries[number]: count for number, count in course.first},
            row_count=course.first_row_count,
            step_count=course.first_step_count,
        )

    def _work_between_s(self, first: Rank, last: Rank) -> float:
        """Work of what comes behind a rank and before another."""
        if first == _END:
            return 0.0
        behind = (*first, math.inf)
        return max(0.0, self._held.work_before_s(last) - self._held.work_before_s(behind))

    def _broken_rest(self, after: Rank, before_s: float, after_s: float) -> list[float]:
        """Deadlines behind a rank that are missed if the first begins later than it would."""
        return [
            due_s
            for latest_s, due_s in self._held.latest_starts_s(after)
            if before_s <= latest_s < after_s
        ]
