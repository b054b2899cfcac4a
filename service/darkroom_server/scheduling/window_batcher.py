"""Which images run together through a whole pipeline. Pure: no I/O, no clock of its own.

The verbs: `add` and `remove` a job, `plan` the next batch or how long to wait for a fuller one,
`begin` and `commit` one that is run. What runs together has the same key and nothing joins it
later, so a job may wait a little for others: up to `max_queue_delay_s`, unless the batch is full or
of a preferred size before (the rules of Triton's dynamic batching). Jobs go by level of priority,
then by deadline; those without one as if it were `PATIENCE_S` after they came, so that they are
passed by no later ones. How many wait in a level, and what becomes of a job that has waited too
long, its queue policy says.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from darkroom_server.domain.jobs import Job
from darkroom_server.domain.models import DynamicBatching, TimeoutAction
from darkroom_server.scheduling.ranking import Ranking

#: Jobs without a deadline are ordered as if they had to be done within this time.
PATIENCE_S = 60.0
#: Jobs too large for the room left in a batch that are looked past for one that fits.
MAX_LOOKED_PAST = 16


@dataclass(frozen=True, slots=True)
class ImagePlace:
    """One image of a job."""

    job_id: str
    image_index: int


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Images that run together; those of a job stand side by side."""

    images: tuple[ImagePlace, ...]


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Nothing is to run before `until_s`, unless a job is added; infinite when there is none."""

    until_s: float


@dataclass(slots=True)
class _Entry:
    job: Job
    #: What it may run together with; unique when it runs alone.
    group: Hashable
    is_alone: bool
    #: Of priority; 1 is the highest.
    level: int
    #: When it has waited long enough for others.
    due_s: float
    sort_s: float
    number: int
    remaining: list[int]
    has_begun: bool = False
    #: Whether it has waited too long and lets others pass.
    is_delayed: bool = False

    @property
    def rank(self) -> tuple[float, ...]:
        """By level, then those that have not waited too long, then by deadline, then arrival."""
        return (self.level, self.is_delayed, self.sort_s, self.number)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job, and how many of its images wait for a run."""

    job: Job
    is_alone: bool
    image_count: int


@dataclass(slots=True)
class WindowBatcher:
    """The jobs of one worker. `max_images`: in one batch; may be lowered while jobs are here."""

    max_images: int
    batching: DynamicBatching
    _entries: dict[str, _Entry] = field(default_factory=dict)
    _groups: dict[Hashable, Ranking[_Entry]] = field(default_factory=dict)
    #: Jobs that have not begun, by level.
    _waiting_counts: Counter[int] = field(default_factory=Counter)
    _deadlines: list[tuple[float, str]] = field(default_factory=list)
    _timeouts: list[tuple[float, str]] = field(default_factory=list)
    _running: WindowBatch = WindowBatch(())
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, job: Job, key: Hashable, now_s: float, *, alone: bool = False) -> None:
        """Takes a job in; jobs of equal keys may run together, unless one is to run `alone`.

        The images of a job that runs alone run one by one.
        """
        due_s = now_s if alone else now_s + self.batching.max_queue_delay_s
        sort_s = now_s + PATIENCE_S
        level = self.batching.level(job.spec.priority)
        timeout_s = self.batching.policy(level).timeout_s
        ends_s = math.inf if timeout_s is None else now_s + timeout_s
        if timeout_s is not None:
            heapq.heappush(self._timeouts, (ends_s, job.job_id))
        if job.deadline_s is not None:
            sort_s = job.deadline_s
            ends_s = min(ends_s, job.deadline_s)
            heapq.heappush(self._deadlines, (job.deadline_s, job.job_id))
        entry = _Entry(
            job=job,
            group=("alone", job.job_id) if alone else ("shared", key),
            is_alone=alone,
            level=level,
            # One that waiting for others would surely cost its time does not wait.
            due_s=now_s if ends_s <= due_s else due_s,
            sort_s=sort_s,
            number=next(self._numbers),
            remaining=list(range(len(job.spec.seeds))),
        )
        self._entries[job.job_id] = entry
        self._waiting_counts[level] += 1
        self._groups.setdefault(entry.group, Ranking()).add(entry)

    def has_room(self, job: Job) -> bool:
        """Whether the queue policy of a job's level lets one more wait."""
        level = self.batching.level(job.spec.priority)
        most = self.batching.policy(level).max_queue_size
        return most is None or most > self._waiting_counts[level]

    def remove(self, job_id: str) -> None:
        """Takes a job out: cancelled, failed or done. Unknown ids are ignored."""
        entry = self._entries.pop(job_id, None)
        if entry is None:
            return
        self._waiting_counts[entry.level] -= not entry.has_begun
        group = self._groups[entry.group]
        group.remove(entry)
        if not group:
            del self._groups[entry.group]

    def expired(self, now_s: float) -> tuple[Job, ...]:
        """Jobs whose deadline has passed; told once."""
        late = []
        while self._deadlines and self._deadlines[0][0] <= now_s:
            _, job_id = heapq.heappop(self._deadlines)
            if job_id in self._entries:
                late.append(self._entries[job_id].job)
        return tuple(late)

    def timed_out(self, now_s: float) -> tuple[Job, ...]:
        """Jobs that have waited too long and are to be turned away; told once.

        Those that are to be delayed instead are put behind the others of their level.
        """
        rejected = []
        while self._timeouts and self._timeouts[0][0] <= now_s:
            _, job_id = heapq.heappop(self._timeouts)
            entry = self._entries.get(job_id)
            if entry is None or entry.has_begun:
                continue
            match self.batching.policy(entry.level).timeout_action:
                case TimeoutAction.REJECT:
                    rejected.append(entry.job)
                case TimeoutAction.DELAY:
                    group = self._groups[entry.group]
                    group.remove(entry)
                    entry.is_delayed = True
                    group.add(entry)
        return tuple(rejected)

    def ahead(self, job: Job, now_s: float) -> Iterator[Waiting]:
        """Jobs with images that do not run yet and would go before one that came now."""
        level = self.batching.level(job.spec.priority)
        sort_s = now_s + PATIENCE_S if job.deadline_s is None else job.deadline_s
        rank = (level, False, sort_s, math.inf)
        for job_id, entry in self._entries.items():
            running_count = sum(image.job_id == job_id for image in self._running.images)
            if entry.rank < rank and len(entry.remaining) > running_count:
                yield Waiting(entry.job, entry.is_alone, len(entry.remaining) - running_count)

    def order(self) -> Iterator[str]:
        """Job ids, the most urgent first."""
        ranked = heapq.merge(*self._groups.values(), key=lambda entry: entry.rank)
        return (entry.job.job_id for entry in ranked)

    def ahead_count(self, job_id: str) -> int:
        """Jobs that are more urgent than one that is here."""
        rank = self._entries[job_id].rank
        return sum(group.count_before(rank) for group in self._groups.values())

    def plan(self, now_s: float) -> WindowBatch | WaitUntil:
        """The next batch, or how long to wait for it. Changes nothing.

        Of jobs of the highest priority here: those below it wait, also while these still may.
        """
        if not self._groups:
            return WaitUntil(math.inf)
        groups = sorted(self._groups.values(), key=lambda group: group.first.rank)
        highest = groups[0].first.rank[0]
        until_s = math.inf
        for group in itertools.takewhile(lambda group: group.first.rank[0] == highest, groups):
            planned = self._plan_group(group, now_s)
            if isinstance(planned, WindowBatch):
                return planned
            until_s = min(until_s, planned.until_s)
        return WaitUntil(until_s)

    def begin(self, batch: WindowBatch) -> None:
        """Jobs of a batch that is about to run wait no longer, also those that go in parts."""
        self._running = batch
        for image in batch.images:
            entry = self._entries.get(image.job_id)
            if entry is not None and not entry.has_begun:
                entry.has_begun = True
                self._waiting_counts[entry.level] -= 1

    def commit(self, batch: WindowBatch) -> None:
        """Drops the images of a batch that was run, and jobs of which none are left."""
        self._running = WindowBatch(())
        for image in batch.images:
            entry = self._entries.get(image.job_id)
            if entry is not None and image.image_index in entry.remaining:
                entry.remaining.remove(image.image_index)
                if not entry.remaining:
                    self.remove(image.job_id)

    def _plan_group(self, group: Ranking[_Entry], now_s: float) -> WindowBatch | WaitUntil:
        """Whole jobs, in order, as far as there is room.

        A job larger than the room there is at most goes in parts.
        """
        room = self._room(group.first)
        images: list[ImagePlace] = []
        preferred_count, looked_past_count = 0, 0
        for entry in group:
            wanted = entry.remaining if images else entry.remaining[:room]
            if len(images) + len(wanted) > room:
                looked_past_count += 1
            else:
                images += [ImagePlace(entry.job.job_id, index) for index in wanted]
            if len(images) in self.batching.preferred_batch_sizes:
                preferred_count = len(images)
            if len(images) == room or looked_past_count == MAX_LOOKED_PAST:
                break
        if preferred_count:
            return WindowBatch(tuple(images[:preferred_count]))
        due_s = min(entry.due_s for entry in group)
        if len(images) == room or looked_past_count or due_s <= now_s:
            return WindowBatch(tuple(images))
        return WaitUntil(due_s)

    def _room(self, first: _Entry) -> int:
        """Images of a batch that the most urgent of a group is in.

        Not more than the largest preferred size, unless the first job alone has more.
        """
        if first.is_alone:
            return 1
        most = max(self.batching.preferred_batch_sizes, default=self.max_images)
        return min(self.max_images, max(most, len(first.remaining)))
