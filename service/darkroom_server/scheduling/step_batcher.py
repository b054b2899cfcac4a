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
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from darkroom_server.domain.jobs import Job
from darkroom_server.scheduling.fairness import FairTurns
from darkroom_server.scheduling.ranking import Ranking
from darkroom_server.scheduling.step_costs import StepCosts

#: Jobs without a deadline are ordered as if they had to be done within this many times the
#: geometric mean of the time they take alone and the time that a typical job takes. In proportion
#: to their own time alone, long jobs that have aged would hold up every short one, or age too late.
SLACK_FACTOR = 12.0
#: Weight of a new job in what is typical.
TYPICAL_SHARE = 0.05
#: Jobs too wide for the room left in a batch that are looked past for one that fits.
MAX_LOOKED_PAST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the batcher knows of a job's images: all of one job are alike.

    `key`: images with equal keys may share a step. `rows`: denoiser rows of one image.
    `evaluations`: denoiser evaluations of one image. `pixel_count`: its size, for guessing costs.
    `alone`: no image of it shares a step, so that its pixels are those of a batch of one.
    """

    key: Hashable
    rows: int
    evaluations: int
    pixel_count: int = 1
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One denoising step of one image."""

    job_id: str
    image_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Steps taken together. `key` is whose cost they have, `group` who took the turn."""

    key: Hashable
    group: Hashable
    steps: tuple[Step, ...]
    row_count: int


@dataclass(slots=True)
class _Entry:
    job: Job
    shape: Shape
    sort_s: float
    number: int
    #: Evaluations left by image; an image leaves when it is finished.
    remaining: dict[int, int]
    is_lost: bool = False

    @property
    def rank(self) -> tuple[float, ...]:
        """By priority, then those that can still make it, then by deadline, then by arrival."""
        return (-self.job.spec.priority, self.is_lost, self.sort_s, self.number)

    @property
    def group(self) -> Hashable:
        """What takes turns: the key, apart for images that share steps and images that do not."""
        return (self.shape.key, self.shape.alone)

    @property
    def row_evaluations(self) -> int:
        """Work left."""
        return self.shape.rows * sum(self.remaining.values())


@dataclass(slots=True)
class StepBatcher:
    """The jobs of one worker."""

    costs: StepCosts
    _entries: dict[str, _Entry] = field(default_factory=dict)
    _groups: dict[Hashable, Ranking[_Entry]] = field(default_factory=dict)
    _deadlines: list[tuple[float, str]] = field(default_factory=list)
    _turns: FairTurns = field(default_factory=FairTurns)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _typical_s: float | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, job: Job, shape: Shape, now_s: float) -> None:
        """Takes a job in."""
        self.costs.introduce(shape.key, shape.pixel_count)
        self._learn_typical(self._alone_s(job, shape))
        entry = self._entry(job, shape, now_s)
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

    def estimate_s(self, job: Job, shape: Shape, now_s: float) -> float | None:
        """Seconds until a job would be denoised, by what is here now; it need not be here itself.

        None while nothing is known of what its steps cost.

        What ranks before it in its group goes first at full batches, and every other group gets as
        much time as its own, up to the work that it has.
        """
        self.costs.introduce(shape.key, shape.pixel_count)
        if not self.costs.knows(shape.key):
            return None
        own = self._entries.get(job.job_id) or self._entry(job, shape, now_s)
        ahead = [
            entry
            for entry in self._groups.get(own.group, ())
            if entry.rank < own.rank and not self._is_late(entry, now_s)
        ]
        alone_s = max(own.remaining.values()) * self._step_s(own)
        mine_s = max(alone_s, self._work_s([*ahead, own]))
        others_s = sum(
            min(mine_s, self._work_s(entries))
            for group, entries in self._groups.items()
            if group != own.group
        )
        return mine_s + others_s

    def plan(self, now_s: float) -> Batch | None:
        """The next batch, or None when there is nothing to do. Planned twice, it is the same."""
        if not self._entries:
            return None
        for group in self._groups.values():
            self._settle_first(group, now_s)
        highest = min(group.first.rank[0] for group in self._groups.values())
        first_class = {
            name: group for name, group in self._groups.items() if group.first.rank[0] == highest
        }
        return self._fill(first_class[self._choose_group(first_class, now_s)], now_s)

    def commit(
        self, batch: Batch, finished: Sequence[Step], duration_s: float, *, learns: bool = True
    ) -> None:
        """Books a batch that was run, and drops the images that it finished.

        `learns` False: its duration tells nothing of the key's cost, as it did not run whole.
        """
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
        self._turns.charge(batch.group, duration_s, self._groups)

    def _entry(self, job: Job, shape: Shape, now_s: float) -> _Entry:
        sort_s = job.deadline_s
        if sort_s is None:
            alone_s = self._alone_s(job, shape)
            sort_s = now_s + SLACK_FACTOR * math.sqrt(alone_s * (self._typical_s or alone_s))
        remaining = dict.fromkeys(range(len(job.spec.seeds)), shape.evaluations)
        return _Entry(job, shape, sort_s, next(self._numbers), remaining)

    def _alone_s(self, job: Job, shape: Shape) -> float:
        """Seconds that a job takes by itself, its images one after another."""
        image_count = len(job.spec.seeds)
        return shape.evaluations * image_count * self.costs.step_s(shape.key, shape.rows)

    def _learn_typical(self, alone_s: float) -> None:
        if self._typical_s is None:
            self._typical_s = alone_s
        self._typical_s += TYPICAL_SHARE * (alone_s - self._typical_s)

    def _withdraw(self, entry: _Entry) -> None:
        group = self._groups[entry.group]
        group.remove(entry)
        if not group:
            del self._groups[entry.group]

    def _settle_first(self, group: Ranking[_Entry], now_s: float) -> None:
        """Sends entries that have become late from the front to behind those that have not."""
        while not group.first.is_lost and self._is_late(group.first, now_s):
            self._give_way(group, group.first)

    def _give_way(self, group: Ranking[_Entry], entry: _Entry) -> None:
        group.remove(entry)
        entry.is_lost = True
        group.add(entry)

    def _choose_group(self, groups: dict[Hashable, Ranking[_Entry]], now_s: float) -> Hashable:
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

    def _slack_s(self, entry: _Entry, now_s: float) -> float:
        """Time an entry can still wait; infinite without a deadline, negative when lost."""
        if entry.job.deadline_s is None:
            return math.inf
        left_s = max(entry.remaining.values(), default=0) * self._step_s(entry)
        return entry.job.deadline_s - now_s - left_s

    def _is_late(self, entry: _Entry, now_s: float) -> bool:
        return self._slack_s(entry, now_s) < 0

    def _step_s(self, entry: _Entry) -> float:
        return self.costs.step_s(entry.shape.key, entry.shape.rows)

    def _work_s(self, entries: Iterable[_Entry]) -> float:
        """Seconds that entries of one group take at full batches."""
        total_s = 0.0
        for entry in entries:
            key, rows = entry.shape.key, entry.shape.rows
            full = rows if entry.shape.alone else max(rows, self.costs.knee(key))
            total_s += entry.row_evaluations * self.costs.step_s(key, full) / full
        return total_s

    def _fill(self, group: Ranking[_Entry], now_s: float) -> Batch:
        """Images of one group up to the knee; looks past some that do not fit."""
        first = group.first
        # Alone, the most urgent runs on to its end: taking turns would make everyone wait longer.
        room = first.shape.rows if first.shape.alone else self.costs.knee(first.shape.key)
        room = max(room, first.shape.rows)
        steps: list[Step] = []
        row_count, looked_past_count = 0, 0
        for entry in self._in_order(group, now_s):
            if row_count + entry.shape.rows > room:
                looked_past_count += 1
            # The images of a job advance side by side: those with the most steps left go first.
            for index in sorted(entry.remaining, key=lambda i: (-entry.remaining[i], i)):
                if row_count + entry.shape.rows <= room:
                    steps.append(Step(entry.job.job_id, index))
                    row_count += entry.shape.rows
            if row_count == room or looked_past_count == MAX_LOOKED_PAST:
                break
        return Batch(
            key=first.shape.key, group=first.group, steps=tuple(steps), row_count=row_count
        )

    def _in_order(self, group: Ranking[_Entry], now_s: float) -> Iterator[_Entry]:
        """A group's entries, those found late on the way after the others of their priority."""
        late: list[_Entry] = []
        for entry in group:
            if late and (entry.is_lost or entry.rank[0] != late[0].rank[0]):
                yield from late
                late = []
            if not entry.is_lost and self._is_late(entry, now_s):
                late.append(entry)
            else:
                yield entry
        yield from late
