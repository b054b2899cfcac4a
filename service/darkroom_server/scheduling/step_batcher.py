"""Which images share the next denoising step. Pure: no I/O, no clock of its own.

The verbs: `add` and `remove` a job, `plan` the next batch, `commit` what it cost. A batch holds
images of one key. Which key: the one whose turn it is (`fairness.py`), unless an image of another
would otherwise miss its deadline. Which images: by priority, then earliest deadline first, up to
the knee of the key's cost curve (`step_costs.py`). Jobs without a deadline are ordered by one that
grows with the root of their length, so that short ones go first and long ones age to the front:
one that takes `s` alone is passed only by what arrives within `SLACK_FACTOR * sqrt(s * t)` after
it, `t` being the length of a typical job. A job that can no longer make its deadline gives way to
those that can.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

from darkroom_server.domain.jobs import Job, Priority
from darkroom_server.scheduling.entry import Entry, Shape, Step
from darkroom_server.scheduling.fairness import FairTurns
from darkroom_server.scheduling.forecast import (
    MAX_LOOKED_PAST,
    Arrival,
    Pace,
    RecentArrivals,
    finish_times_s,
)
from darkroom_server.scheduling.ranking import Ranking
from darkroom_server.scheduling.shared_rows import SharedRows
from darkroom_server.scheduling.step_costs import StepCosts

#: Jobs without a deadline are ordered as if they had to be done within this many times the
#: geometric mean of the time they take alone and the time that a typical job takes. In proportion
#: to their own time alone, long jobs that have aged would hold up every short one, or age too late.
SLACK_FACTOR = 10.0
#: Weight of a new job in what is typical.
TYPICAL_SHARE = 0.05
#: A job is taken to miss its deadline when it would take this many times what is forecast.
PROMISE_MARGIN = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Steps taken together. `key` is whose cost they have, `group` who took the turn."""

    key: Hashable
    group: Hashable
    steps: tuple[Step, ...]
    row_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What taking a job in would mean.

    `done_s`: seconds until it is denoised and decoded, with what may be expected to overtake it.
    `breaks_until_s`: the last deadline that others would miss by it, and would not without it.
    """

    done_s: float
    breaks_until_s: float | None


@dataclass(slots=True)
class StepBatcher:
    """The jobs of one worker."""

    costs: StepCosts
    shared: SharedRows = field(default_factory=SharedRows)
    _entries: dict[str, Entry] = field(default_factory=dict)
    _groups: dict[Hashable, Ranking[Entry]] = field(default_factory=dict)
    #: Those that gave way, first the one that did longest ago.
    _lost: dict[str, Entry] = field(default_factory=dict)
    _deadlines: list[tuple[float, str]] = field(default_factory=list)
    _turns: FairTurns = field(default_factory=FairTurns)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _typical_s: float | None = None
    _recent: RecentArrivals = field(default_factory=RecentArrivals)
    #: What was planned last, until it is committed, and when the device will be done with it.
    _running: frozenset[Step] = frozenset()
    _busy_until_s: float = -math.inf

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, job: Job, shape: Shape, now_s: float, *, behind_s: float | None = None) -> None:
        """Takes a job in; one without a deadline goes behind what has to be done by `behind_s`."""
        self.costs.introduce(shape.key, shape.pixel_count)
        self._learn_typical(self._alone_s(job, shape))
        entry = self._entry(job, shape, now_s)
        if behind_s is not None and job.deadline_s is None:
            entry.sort_s = max(entry.sort_s, behind_s)
        self._recent.note(
            Arrival(
                at_s=now_s,
                allowed_s=entry.sort_s - now_s,
                work_s=self._pace(shape).work_s(entry.load(self._running)),
            )
        )
        self._entries[job.job_id] = entry
        self._groups.setdefault(entry.group, Ranking()).add(entry)
        if job.deadline_s is not None:
            heapq.heappush(self._deadlines, (job.deadline_s, job.job_id))

    def remove(self, job_id: str) -> None:
        """Takes a job out: cancelled, failed or done. Unknown ids are ignored."""
        entry = self._entries.pop(job_id, None)
        if entry is not None:
            self._withdraw(entry)

    def expired(self, now_s: float) -> tuple[Job, ...]:
        """Jobs whose deadline has passed; told once."""
        late = []
        while self._deadlines and self._deadlines[0][0] <= now_s:
            _, job_id = heapq.heappop(self._deadlines)
            if job_id in self._entries:
                late.append(self._entries[job_id].job)
        return tuple(late)

    def order(self) -> Iterator[str]:
        """Job ids, the most urgent first."""
        ranked = heapq.merge(*self._groups.values(), key=lambda entry: entry.rank)
        return (entry.job.job_id for entry in ranked)

    def ahead_count(self, job_id: str) -> int:
        """Jobs that are more urgent than one that is here."""
        rank = self._entries[job_id].rank
        return sum(group.count_before(rank) for group in self._groups.values())

    def forecast(self, job: Job, shape: Shape, now_s: float) -> Forecast | None:
        """What taking a job in would mean; None while nothing is known of what its steps cost."""
        self.costs.introduce(shape.key, shape.pixel_count)
        if not self.costs.knows(shape.key):
            return None
        entry = self._entry(job, shape, now_s)
        done_s = self._done_times_s(now_s, entry)
        return Forecast(
            done_s=self._recent.delayed_s(done_s[job.job_id], now_s=now_s, place_s=entry.sort_s),
            breaks_until_s=self._breaks_until_s(job.spec.priority, done_s, now_s),
        )

    def estimates_s(self, now_s: float) -> dict[str, float]:
        """Seconds until each job that is here is done, of those whose steps' costs are known."""
        return {
            job_id: self._recent.delayed_s(
                done_s, now_s=now_s, place_s=self._entries[job_id].sort_s
            )
            for job_id, done_s in self._done_times_s(now_s).items()
            if self.costs.knows(self._entries[job_id].shape.key)
        }

    def plan(self, now_s: float) -> Batch | None:
        """The next batch, or None when there is nothing to do. Planned twice, it is the same."""
        if not self._entries:
            return None
        self._find_again(now_s)
        for group in self._groups.values():
            self._settle_first(group, now_s)
        highest = min(group.first.rank[0] for group in self._groups.values())
        first_class = {
            name: group for name, group in self._groups.items() if group.first.rank[0] == highest
        }
        batch = self._fill(first_class[self._choose_group(first_class, now_s)], now_s)
        ending_count = sum(
            self._entries[step.job_id].remaining[step.image_index] == 1 for step in batch.steps
        )
        self._running = frozenset(batch.steps)
        self._busy_until_s = (
            now_s
            + self.costs.step_s(batch.key, batch.row_count)
            + ending_count * self.costs.image_s(batch.key)
        )
        return batch

    def commit(
        self, batch: Batch, finished: Sequence[Step], duration_s: float, *, learns: bool = True
    ) -> None:
        """Books a batch that was run, and drops the images that it finished.

        `learns` False: its duration tells nothing of the key's cost: it did not run whole, or was
        the first of its shape.
        """
        self._running = frozenset()
        if learns:
            self.costs.learn(batch.key, batch.row_count, duration_s)
        for step in batch.steps:
            entry = self._entries.get(step.job_id)
            if entry is not None and step.image_index in entry.remaining:
                entry.remaining[step.image_index] = max(1, entry.remaining[step.image_index] - 1)
        for step in finished:
            entry = self._entries.get(step.job_id)
            if entry is not None:
                entry.remaining.pop(step.image_index, None)
                if not entry.remaining:
                    self.remove(step.job_id)
        made_s = len(finished) * self.costs.image_s(batch.key)
        self._turns.charge(batch.group, duration_s + made_s, self._groups)

    def _entry(self, job: Job, shape: Shape, now_s: float) -> Entry:
        sort_s = job.deadline_s
        if sort_s is None:
            alone_s = self._alone_s(job, shape)
            sort_s = now_s + SLACK_FACTOR * math.sqrt(alone_s * (self._typical_s or alone_s))
        remaining = dict.fromkeys(range(len(job.spec.seeds)), shape.evaluations)
        return Entry(job, shape, sort_s, next(self._numbers), remaining)

    def _alone_s(self, job: Job, shape: Shape) -> float:
        """Seconds that a job takes by itself, its images one after another."""
        image_count = len(job.spec.seeds)
        return shape.evaluations * image_count * self.costs.step_s(shape.key, shape.rows)

    def _learn_typical(self, alone_s: float) -> None:
        if self._typical_s is None:
            self._typical_s = alone_s
        self._typical_s += TYPICAL_SHARE * (alone_s - self._typical_s)

    def _withdraw(self, entry: Entry) -> None:
        self._lost.pop(entry.job.job_id, None)
        group = self._groups[entry.group]
        group.remove(entry)
        if not group:
            del self._groups[entry.group]

    def _settle_first(self, group: Ranking[Entry], now_s: float) -> None:
        """Sends entries that have become late from the front to behind those that have not."""
        while not group.first.is_lost and self._is_late(group.first, now_s):
            self._give_way(group.first, is_lost=True)

    def _find_again(self, now_s: float) -> None:
        """Gives some of those that were found late their places back, where that was an error.

        It is when a step was disturbed, and its key seemed to cost more than it does.
        """
        for entry in list(itertools.islice(self._lost.values(), MAX_LOOKED_PAST)):
            if not self._is_late(entry, now_s):
                self._give_way(entry, is_lost=False)

    def _give_way(self, entry: Entry, *, is_lost: bool) -> None:
        """Puts an entry behind those that can make their deadlines, or back among them."""
        group = self._groups[entry.group]
        group.remove(entry)
        entry.is_lost = is_lost
        group.add(entry)
        if is_lost:
            self._lost[entry.job.job_id] = entry
        else:
            del self._lost[entry.job.job_id]

    def _choose_group(self, groups: dict[Hashable, Ranking[Entry]], now_s: float) -> Hashable:
        """The group whose turn it is, unless a deadline of another cannot wait for its turn."""
        if len(groups) == 1:
            return next(iter(groups))
        keys = [group.first.shape.key for group in groups.values()]
        round_s = sum(self.costs.step_s(key, self.costs.knee(key)) for key in keys)
        slack_s = {name: self._slack_s(group.first, now_s) for name, group in groups.items()}
        urgent = [name for name, slack in slack_s.items() if 0 <= slack < round_s]
        if urgent:
            return min(urgent, key=lambda name: slack_s[name])
        return self._turns.next(groups)

    def _slack_s(self, entry: Entry, now_s: float) -> float:
        """Time an entry can still wait; infinite without a deadline, negative when lost."""
        if entry.job.deadline_s is None:
            return math.inf
        side_by_side = max(1, self._room(entry.shape) // entry.shape.rows)
        left_s = entry.least_step_count(side_by_side) * self._step_s(entry)
        return entry.job.deadline_s - now_s - left_s

    def _is_late(self, entry: Entry, now_s: float) -> bool:
        return self._slack_s(entry, now_s) < 0

    def _step_s(self, entry: Entry) -> float:
        return self.costs.step_s(entry.shape.key, entry.shape.rows)

    def _pace(self, shape: Shape) -> Pace:
        return Pace(
            room=self._room(shape),
            step_s=cache(partial(self.costs.step_s, shape.key)),
            image_s=self.costs.image_s(shape.key),
        )

    def _room(self, shape: Shape) -> int:
        """Rows of a full batch; 0 where images run alone."""
        if shape.alone:
            return 0
        knee = self.costs.knee(shape.key)
        return self.shared.most(shape.key, knee) if shape.exact else knee

    def _done_times_s(self, now_s: float, extra: Entry | None = None) -> dict[str, float]:
        """Seconds until each job is done if nothing else comes, `extra` among them.

        Every group is played by itself. Meanwhile each other one gets as much time, up to the work
        that it has; what is of a higher priority goes first, and of a lower not at all.
        """
        groups = {name: list(group) for name, group in self._groups.items()}
        if extra is not None:
            groups.setdefault(extra.group, []).append(extra)
        alone_s: dict[Hashable, dict[str, float]] = {}
        work_s: dict[Hashable, dict[Priority, float]] = {}
        for name, entries in groups.items():
            entries.sort(key=lambda entry: self._place(entry, now_s))
            pace = self._pace(entries[0].shape)
            loads = [entry.load(self._running) for entry in entries]
            ids = (entry.job.job_id for entry in entries)
            alone_s[name] = dict(zip(ids, finish_times_s(loads, pace), strict=True))
            work_s[name] = defaultdict(float)
            for entry, load in zip(entries, loads, strict=True):
                work_s[name][entry.job.spec.priority] += pace.work_s(load)
        busy_s = max(0.0, self._busy_until_s - now_s)
        done_s = {}
        for name, entries in groups.items():
            others = [work for other, work in work_s.items() if other != name]
            for entry in entries:
                own_s = alone_s[name][entry.job.job_id]
                done_s[entry.job.job_id] = (
                    busy_s + own_s + _waiting_s(entry.job.spec.priority, own_s, others)
                )
        return done_s

    def _place(self, entry: Entry, now_s: float) -> tuple[float, ...]:
        """Its rank, as if what has become late had been found late."""
        priority, is_lost, *rest = entry.rank
        return (priority, is_lost or self._is_late(entry, now_s), *rest)

    def _breaks_until_s(
        self, priority: Priority, done_s: Mapping[str, float], now_s: float
    ) -> float | None:
        """The last deadline of those of a job's priority that are missed only because of it."""

        def missed(done_s: Mapping[str, float]) -> dict[str, float]:
            return {
                job_id: deadline_s
                for job_id, entry in self._entries.items()
                if (deadline_s := entry.job.deadline_s) is not None
                and entry.job.spec.priority >= priority
                and now_s + PROMISE_MARGIN * done_s[job_id] > deadline_s
            }

        broken = missed(done_s)
        if broken:
            anyway = missed(self._done_times_s(now_s))
            broken = {job_id: at_s for job_id, at_s in broken.items() if job_id not in anyway}
        return max(broken.values(), default=None)

    def _fill(self, group: Ranking[Entry], now_s: float) -> Batch:
        """Images of one group up to the knee; looks past some that do not fit."""
        first = group.first
        # Alone, the most urgent runs on to its end: taking turns would make everyone wait longer.
        room = max(self._room(first.shape), first.shape.rows)
        steps: list[Step] = []
        image_rows: list[int] = []
        row_count, looked_past_count = 0, 0
        for entry in self._in_order(group, now_s):
            if row_count + entry.shape.rows > room:
                looked_past_count += 1
            for index in entry.image_order():
                if row_count + entry.shape.rows <= room:
                    steps.append(Step(entry.job.job_id, index))
                    image_rows.append(entry.shape.rows)
                    row_count += entry.shape.rows
            if row_count == room or looked_past_count == MAX_LOOKED_PAST:
                break
        if first.shape.exact:
            count = self.shared.longest(first.shape.key, image_rows)
            steps, row_count = steps[:count], sum(image_rows[:count])
        return Batch(
            key=first.shape.key, group=first.group, steps=tuple(steps), row_count=row_count
        )

    def _in_order(self, group: Ranking[Entry], now_s: float) -> Iterator[Entry]:
        """A group's entries, those found late on the way after the others of their priority."""
        late: list[Entry] = []
        for entry in group:
            if late and (entry.is_lost or entry.rank[0] != late[0].rank[0]):
                yield from late
                late = []
            if not entry.is_lost and self._is_late(entry, now_s):
                late.append(entry)
            else:
                yield entry
        yield from late


def _waiting_s(
    priority: Priority, own_s: float, others: Iterable[Mapping[Priority, float]]
) -> float:
    """Time that other groups take while one takes `own_s`."""
    return sum(
        work_s if other > priority else min(own_s, work_s)
        for work in others
        for other, work_s in work.items()
        if other >= priority
    )
