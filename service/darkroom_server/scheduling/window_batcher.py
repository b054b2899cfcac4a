"""Which images run together through a whole pipeline. Pure: no I/O, no clock of its own.

The verbs: `add` and `remove` a job, `plan` the next batch or how long to wait for a fuller one,
`begin` and `commit` one that is run. What runs together has the same key and nothing joins it
later, so a job may wait a little for others: up to `max_queue_delay_s`, unless the batch is full or
of a preferred size before (the rules of Triton's dynamic batching). The order is by priority,
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

from darkroom_server.domain.dynamic_batching import DynamicBatching, TimeoutAction
from darkroom_server.domain.jobs import Job
from darkroom_server.scheduling.play import MAX_LOOKED_PAST
from darkroom_server.scheduling.ranking import Ranking, TimedRanking
from darkroom_server.scheduling.run_kinds import RunKind
from darkroom_server.scheduling.window_entry import WindowEntry, WindowGroup

#: Jobs without a deadline are ordered as if they had to be done within this time.
PATIENCE_S = 60.0
#: Kinds of runs whose waiting images are reported one by one; the rest is counted as one.
MAX_COUNTED_KINDS = 16


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


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits of one kind: steps of single images; `is_alone`: they run one by one."""

    kind: RunKind
    is_alone: bool
    image_step_count: float


@dataclass(slots=True)
class WindowBatcher:
    """The jobs of one worker. `max_images`: in one batch; may be lowered while jobs are here."""

    max_images: int
    batching: DynamicBatching
    _entries: dict[str, WindowEntry] = field(default_factory=dict)
    _all: TimedRanking[WindowEntry] = field(default_factory=TimedRanking)
    _lines: dict[tuple[RunKind, bool], TimedRanking[WindowEntry]] = field(default_factory=dict)
    _groups: dict[Hashable, WindowGroup] = field(default_factory=dict)
    #: Groups that a batch may be of at once, and by level when others may be, some of them no more.
    _ready: Ranking[WindowGroup] = field(default_factory=Ranking)
    _unready: dict[int, list[tuple[float, int, WindowGroup]]] = field(default_factory=dict)
    #: The limit that this was found for.
    _known_max_images: int = field(init=False)
    #: Jobs that have not begun, by level.
    _waiting_counts: Counter[int] = field(default_factory=Counter)
    _deadlines: list[tuple[float, str]] = field(default_factory=list)
    _timeouts: list[tuple[float, str]] = field(default_factory=list)
    _running: WindowBatch = WindowBatch(())
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self._known_max_images = self.max_images

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
        entry = WindowEntry(
            job=job,
            kind=RunKind.of(job.spec),
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
        self._all.add(entry)
        self._lines.setdefault((entry.kind, alone), TimedRanking()).add(entry)
        group = self._groups.setdefault(entry.group, WindowGroup())
        group.add(entry)
        self._look_at(group)

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
        self._all.remove(entry)
        line = self._line(entry)
        line.remove(entry)
        if not line:
            del self._lines[(entry.kind, entry.is_alone)]
        group = self._groups[entry.group]
        group.remove(entry)
        self._look_at(group)
        if not group.entries:
            del self._groups[entry.group]

    def expired(self, now_s: float) -> tuple[Job, ...]:
        """Jobs whose deadline has passed; each is returned once."""
        late = []
        while self._deadlines and self._deadlines[0][0] <= now_s:
            _, job_id = heapq.heappop(self._deadlines)
            if job_id in self._entries:
                late.append(self._entries[job_id].job)
        return tuple(late)

    def timed_out(self, now_s: float) -> tuple[Job, ...]:
        """Jobs that have waited too long and are to be refused; each is returned once.

        Those that are to be delayed instead move behind the others of their level.
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
                    self._delay(entry)
        return tuple(rejected)

    def ahead(self, job: Job, now_s: float) -> Iterator[Waiting]:
        """What does not run yet and would go before a job that came now."""
        level = self.batching.level(job.spec.priority)
        sort_s = now_s + PATIENCE_S if job.deadline_s is None else job.deadline_s
        rank = (level, False, sort_s, math.inf)
        rest_s = self._all.work_before_s(rank)
        lines = iter(self._lines.items())
        for (kind, is_alone), line in itertools.islice(lines, MAX_COUNTED_KINDS):
            work_s = line.work_before_s(rank)
            rest_s -= work_s
            if work_s:
                yield Waiting(kind, is_alone, work_s / kind.step_px)
        for (kind, is_alone), _ in itertools.islice(lines, 1):
            if rest_s > 0:
                yield Waiting(kind, is_alone, rest_s / kind.step_px)

    def order(self) -> Iterator[str]:
        """Job ids, the most urgent first; each costs the same, however many there are."""
        return (entry.job.job_id for entry in self._all)

    def ahead_count(self, job_id: str) -> int:
        """Jobs that are more urgent than one that is here."""
        return self._all.count_before(self._entries[job_id].rank)

    def plan(self, now_s: float) -> WindowBatch | WaitUntil:
        """The next batch, or how long to wait for it. Planned twice, it is the same.

        Of jobs of the highest priority here: those below it wait, also while these still may.
        """
        if not self._entries:
            return WaitUntil(math.inf)
        if self._known_max_images != self.max_images:
            self._known_max_images = self.max_images
            for group in self._groups.values():
                self._look_at(group)
        highest = self._all.first.level
        unready = self._unready.setdefault(highest, [])
        while unready and (unready[0][0] <= now_s or _is_stale(unready[0], highest)):
            found = heapq.heappop(unready)
            if not _is_stale(found, highest):
                found[-1].is_ready = True
                self._ready.add(found[-1])
        if len(self._ready) and self._ready.first.rank[0] == highest:
            return WindowBatch(self._filled(self._ready.first)[0])
        return WaitUntil(unready[0][0] if unready else math.inf)

    def begin(self, batch: WindowBatch) -> None:
        """Jobs of a batch that is about to run wait no longer, also those that go in parts."""
        self._set_running(batch)
        for image in batch.images:
            entry = self._entries.get(image.job_id)
            if entry is not None and not entry.has_begun:
                entry.has_begun = True
                self._waiting_counts[entry.level] -= 1

    def commit(self, batch: WindowBatch) -> None:
        """Drops the images of a batch that was run, and jobs of which none are left."""
        self._set_running(WindowBatch(()))
        for image in batch.images:
            entry = self._entries.get(image.job_id)
            if entry is None or image.image_index not in entry.remaining:
                continue
            if len(entry.remaining) == 1:
                self.remove(image.job_id)
            else:
                entry.remaining.remove(image.image_index)
                self._touch(entry)
                self._look_at(self._groups[entry.group])

    def _line(self, entry: WindowEntry) -> TimedRanking[WindowEntry]:
        """Those whose runs cost the same."""
        return self._lines[(entry.kind, entry.is_alone)]

    def _touch(self, entry: WindowEntry) -> None:
        """More or less of an entry waits."""
        self._all.touch(entry)
        self._line(entry).touch(entry)

    def _set_running(self, batch: WindowBatch) -> None:
        counts = Counter(image.job_id for image in batch.images)
        for job_id in dict.fromkeys(
            image.job_id for image in (*self._running.images, *batch.images)
        ):
            if (entry := self._entries.get(job_id)) is not None:
                entry.running_count = counts[job_id]
                self._touch(entry)
        self._running = batch

    def _delay(self, entry: WindowEntry) -> None:
        """Puts an entry behind the others of its level."""
        group = self._groups[entry.group]
        rankings: tuple[Ranking[WindowEntry], ...] = (self._all, self._line(entry), group.entries)
        for ranking in rankings:
            ranking.remove(entry)
        entry.is_delayed = True
        for ranking in rankings:
            ranking.add(entry)
        self._look_at(group)

    def _look_at(self, group: WindowGroup) -> None:
        """Finds when a batch of a group is to run; what is in it has changed."""
        if group.is_ready:
            self._ready.remove(group)
        was = (group.rank[:1], None if group.is_ready else group.ready_s)
        group.is_ready = False
        if not group.entries:
            group.ready_s = None
            return
        group.rank = group.entries.first.rank
        group.ready_s = -math.inf if self._filled(group)[1] else group.due_s()
        level = group.entries.first.level
        if was == (group.rank[:1], group.ready_s):
            return
        unready = self._unready.setdefault(level, [])
        heapq.heappush(unready, (group.ready_s, next(self._numbers), group))
        if len(unready) > 2 * len(self._groups) + MAX_LOOKED_PAST:
            live = {id(one[-1]): one for one in unready if not _is_stale(one, level)}
            unready[:] = live.values()
            heapq.heapify(unready)

    def _filled(self, group: WindowGroup) -> tuple[tuple[ImagePlace, ...], bool]:
        """Whole jobs, in order, as far as there is room, and whether they wait for no others.

        A job larger than the room there is at most goes in parts.
        """
        room = self._room(group.entries.first)
        images: list[ImagePlace] = []
        preferred_count, looked_past_count = 0, 0
        for entry in group.entries:
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
            return tuple(images[:preferred_count]), True
        return tuple(images), len(images) == room or looked_past_count > 0

    def _room(self, first: WindowEntry) -> int:
        """Images of a batch that the most urgent of a group is in.

        Not more than the largest preferred size, unless the first job alone has more.
        """
        if first.is_alone:
            return 1
        most = max(self.batching.preferred_batch_sizes, default=self.max_images)
        return min(self.max_images, max(most, len(first.remaining)))


def _is_stale(one: tuple[float, int, WindowGroup], level: int) -> bool:
    """Whether it is so no more that a group of a level waits until a time."""
    ready_s, _, group = one
    return group.is_ready or group.ready_s != ready_s or group.rank[0] != level
