"""Which images share the next denoising step. Pure: no I/O, no clock of its own.

The verbs: `add` and `remove` a job, `plan` the next batch, `commit` what it cost. A batch holds
images of one key. Whose turn it is: callers share the device by time (`fairness.py`), and each
caller's shapes its part. Which images: by priority, then earliest deadline first, up to the knee of
the key's cost curve (`step_costs.py`). Jobs without a deadline are ordered by one that grows with
the root of their length, so that short ones go first and long ones age to the front: one that takes
`s` alone is passed only by what arrives within `SLACK_FACTOR * sqrt(s * t)` after it, `t` being the
length of a typical job.

One rule goes before all of this: a step is taken, and grows, only as far as everyone to whom a
deadline is promised stays on time (`promises.py`).
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from darkroom_server.domain.jobs import Job, Priority
from darkroom_server.scheduling import batch as batches
from darkroom_server.scheduling.admission import PROMISE_MARGIN, Admission, Forecast
from darkroom_server.scheduling.batch import Batch, filled
from darkroom_server.scheduling.entry import Entry, Shape, Step
from darkroom_server.scheduling.estimates import Played, own_s
from darkroom_server.scheduling.forecast import Arrival, RecentArrivals, RecentDemand
from darkroom_server.scheduling.lateness import Lateness
from darkroom_server.scheduling.paces import Paces
from darkroom_server.scheduling.promises import Outlook, Promises
from darkroom_server.scheduling.queue import RECOUNT_SHARE, JobQueue
from darkroom_server.scheduling.ranking import TimedRanking
from darkroom_server.scheduling.shared_rows import SharedRows
from darkroom_server.scheduling.spare import Spare
from darkroom_server.scheduling.step_costs import StepCosts
from darkroom_server.scheduling.typical import TypicalJob

#: Jobs without a deadline are ordered as if they had to be done within this many times the
#: geometric mean of the time they take alone and the time that a typical job takes. In proportion
#: to their own time alone, long jobs that have aged would hold up every short one, or age too late.
SLACK_FACTOR = 10.0
#: A caller may have had this much more time than the one who had least, in usual jobs, before that
#: one goes first: until then the order of all decides, so that jobs are not all begun at once.
LEAD_JOB_COUNT = 0.25
#: What a caller can owe for time it had out of turn, in usual jobs.
OWED_JOB_COUNT = 2.0


@dataclass(slots=True)
class StepBatcher:
    """The jobs of one worker."""

    costs: StepCosts
    shared: SharedRows = field(default_factory=SharedRows)
    _entries: dict[str, Entry] = field(default_factory=dict)
    _queue: JobQueue = field(default_factory=JobQueue)
    _promises: Promises = field(init=False)
    _late: Lateness = field(init=False)
    _deadlines: list[tuple[float, str]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _typical: TypicalJob = field(default_factory=TypicalJob)
    _recent: RecentArrivals = field(default_factory=RecentArrivals)
    _demand: RecentDemand = field(default_factory=RecentDemand)
    #: What was planned last, until it is committed, and when the device will be done with it.
    _running: frozenset[Step] = frozenset()
    _running_entries: tuple[tuple[Entry, int], ...] = ()
    _busy_until_s: float = -math.inf
    _spare: Spare = field(init=False)
    _paces: Paces = field(init=False)

    def __post_init__(self) -> None:
        self._promises = Promises(lambda shape: self._paces.of(shape))
        self._paces = Paces(self.costs, self.shared, changed=self._promises.changed)
        self._spare = Spare(self._look)
        self._late = Lateness(
            self._queue, self._promises, self._paces.of, changed=self._spare.forget
        )

    def __len__(self) -> int:
        return len(self._entries)

    def add(
        self,
        job: Job,
        shape: Shape,
        now_s: float,
        *,
        admission: Admission | None = None,
        remaining: dict[int, int] | None = None,
    ) -> None:
        """Takes a job in, as it was admitted; without `admission`, its deadline is promised.

        `remaining`: evaluations left by image, where some were done before.
        """
        self.costs.introduce(shape.key, shape.pixel_count)
        self._typical.note(self._alone_s(job, shape))
        entry = self._entry(job, shape, now_s, remaining)
        if admission is None:
            least_s = self._paces.of(shape).least_s(entry.load(frozenset()))
            admission = Admission(reserve_s=(PROMISE_MARGIN - 1) * least_s)
        if admission.behind_s is not None and job.deadline_s is None:
            entry.sort_s = max(entry.sort_s, admission.behind_s)
        self._recent.note(
            Arrival(
                at_s=now_s,
                allowed_s=entry.sort_s - now_s,
                work_s=entry.work_s,
                priority=job.spec.priority,
            )
        )
        if job.deadline_s is not None and admission.reserve_s is not None:
            entry.is_promised, entry.reserve_s = True, admission.reserve_s
            self._promises.add(entry)
            self._spare.forget()
        self._entries[job.job_id] = entry
        self._queue.add(entry)
        if job.deadline_s is not None:
            heapq.heappush(self._deadlines, (job.deadline_s, job.job_id))

    def remove(self, job_id: str) -> None:
        """Takes a job out: cancelled, failed or done. Unknown ids are ignored."""
        entry = self._entries.pop(job_id, None)
        if entry is not None:
            self._late.forget(job_id)
            self._queue.remove(entry)
            if self._promises.remove(entry):
                self._spare.forget()

    def expired(self, now_s: float) -> tuple[Job, ...]:
        """Jobs whose deadline has passed; each is returned once."""
        late = []
        while self._deadlines and self._deadlines[0][0] <= now_s:
            _, job_id = heapq.heappop(self._deadlines)
            if job_id in self._entries:
                late.append(self._entries[job_id].job)
        return tuple(late)

    def order(self) -> Iterator[str]:
        """Job ids, the most urgent first."""
        return (entry.job.job_id for entry in self._queue)

    def ahead_count(self, job_id: str) -> int:
        """Jobs that are more urgent than one that is here."""
        return self._queue.count_before(self._entries[job_id])

    def forecast(self, job: Job, shape: Shape, now_s: float) -> Forecast | None:
        """What taking a job in would mean; None while nothing is known of what its steps cost.

        It is asked once for each that comes: what is asked for of a priority is remembered.
        """
        self.costs.introduce(shape.key, shape.pixel_count)
        if not self.costs.knows(shape.key):
            return None
        entry = self._entry(job, shape, now_s)
        begin_s = max(now_s, self._busy_until_s)
        before = self._promises.outlook(begin_s, self._running)
        priority = job.spec.priority
        self._demand.note(now_s, priority, entry.work_s)
        if job.deadline_s is None:
            broken_s = self._promises.broken_until_s(before, entry)
            return Forecast(done_s=self._done_s(entry, now_s), kept_s=None, breaks_until_s=broken_s)

        def left_margin(priority: Priority, within_s: float) -> float:
            return self._demand.margin(priority, now_s=now_s, within_s=within_s)

        entry.is_promised = True
        done_s, broken_s = self._promises.with_job(
            before, entry, begin_s, self._running, left_margin
        )
        return Forecast(
            done_s=self._done_s(entry, now_s),
            kept_s=done_s - now_s,
            breaks_until_s=broken_s,
            left_margin=left_margin(priority, job.deadline_s - now_s),
        )

    def estimates_s(self, job_ids: Iterable[str], now_s: float) -> dict[str, float]:
        """Seconds until jobs that are here are done, of those whose steps' costs are known."""
        entries = [self._entries[job_id] for job_id in job_ids]
        played: Played = {}
        return {
            entry.job.job_id: self._done_s(entry, now_s, played)
            for entry in entries
            if self.costs.knows(entry.shape.key)
        }

    def plan(self, now_s: float) -> Batch | None:
        """The next batch, or None when there is nothing to do. Planned twice, it is the same."""
        if not self._entries:
            return None
        self._late.find_again(now_s)
        lead, entries = self._next_in_turn(now_s)
        batch = filled(entries, self.costs, self.shared, lead=lead)
        if len(self._promises):
            batch = self._on_time(batch, now_s)
        batch = replace(batch, apart_row_count=self._apart_row_count(lead, batch))
        counts = Counter(step.job_id for step in batch.steps)
        self._running = frozenset(batch.steps)
        self._running_entries = tuple(
            (self._entries[job_id], count) for job_id, count in counts.items()
        )
        self._busy_until_s = now_s + self._takes_s(batch)
        return batch

    def _apart_row_count(self, lead: Entry, batch: Batch) -> int:
        """Rows that wait and would fill the step, if larger steps were as exact."""
        knee = self.costs.knee(batch.key)
        exact_rows = max(batches.room(lead.shape, self.costs, self.shared), lead.shape.rows)
        if not lead.shape.exact or exact_rows >= knee:
            return 0
        waiting_rows = 0
        for entry in itertools.islice(self._queue.group(lead), knee):
            waiting_rows += len(entry.remaining) * entry.shape.rows
        return max(0, min(knee, waiting_rows) - batch.row_count)

    def commit(
        self, batch: Batch, finished: Sequence[Step], duration_s: float, *, learns: bool = True
    ) -> None:
        """Accounts for a batch that was run, and removes the images that it finished.

        `learns` False: its duration is no measure of the key's cost: it did not run completely, or
        was the first of its shape.
        """
        self._spare.book(Counter(step.job_id for step in batch.steps), self._needed_s)
        self._promises.changed()
        self._running = frozenset()
        if learns:
            self.costs.learn(batch.key, batch.row_count, duration_s)
        finished_counts = Counter(step.job_id for step in finished)
        self._charge(batch, finished_counts, duration_s)
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
        for entry, _ in self._running_entries:
            self._recount(entry)
        self._running_entries = ()

    def _entry(
        self, job: Job, shape: Shape, now_s: float, remaining: dict[int, int] | None = None
    ) -> Entry:
        sort_s = job.deadline_s
        if sort_s is None:
            alone_s = self._alone_s(job, shape)
            sort_s = now_s + SLACK_FACTOR * math.sqrt(alone_s * (self._typical.mean_s or alone_s))
        if remaining is None:
            remaining = dict.fromkeys(range(len(job.spec.seeds)), shape.evaluations)
        entry = Entry(job, shape, sort_s, next(self._numbers), remaining)
        entry.work_s = self._paces.of(shape).work_s(entry.load(frozenset()))
        return entry

    def _alone_s(self, job: Job, shape: Shape) -> float:
        """Seconds that a job takes by itself, its images one after another."""
        image_count = len(job.spec.seeds)
        return shape.evaluations * image_count * self.costs.step_s(shape.key, shape.rows)

    def _takes_s(self, batch: Batch) -> float:
        """Seconds that a batch takes, with the decoding of what it ends."""
        ending_count = sum(
            self._entries[step.job_id].remaining[step.image_index] == 1 for step in batch.steps
        )
        image_s = self.costs.image_s(batch.key)
        return self.costs.step_s(batch.key, batch.row_count) + ending_count * image_s

    def _recount(self, entry: Entry) -> None:
        if entry.job.job_id in self._entries:
            work_s = self._paces.of(entry.shape).work_s(entry.load(frozenset()))
            if not RECOUNT_SHARE * entry.work_s <= work_s <= entry.work_s:
                self._queue.recount(entry, work_s)
                self._promises.touch(entry)

    def _charge(self, batch: Batch, finished: Counter[str], duration_s: float) -> None:
        """Books a step with those whose images took part, by their rows."""
        image_s = self.costs.image_s(batch.key)
        most_owed_s = OWED_JOB_COUNT * self._typical.usual_s
        shares_s: dict[tuple[int, str], tuple[Entry, float]] = {}
        for entry, count in self._running_entries:
            share_s = duration_s * count * entry.shape.rows / max(1, batch.row_count)
            share_s += image_s * finished[entry.job.job_id]
            owner = (entry.job.spec.priority, entry.job.caller)
            first, sum_s = shares_s.get(owner, (entry, 0.0))
            shares_s[owner] = (first, sum_s + share_s)
        for entry, sum_s in shares_s.values():
            self._queue.charge(entry, sum_s, most_owed_s=most_owed_s)

    def _next_in_turn(self, now_s: float) -> tuple[Entry, Iterator[Entry]]:
        """Who leads the next batch, and who may join it, in order.

        Everyone who is late gives way before: one who does might have led, and without it the turn
        may be another caller's, or another shape's.
        """
        while True:
            if len(self._promises):
                self._spare.at(now_s)
            line, is_owed = self._turn()
            if not self._late.give_way((self._queue.first, line.first), now_s):
                break
        others = self._late.in_order(self._queue.group(line.first), now_s)
        return line.first, itertools.chain(line, others) if is_owed else others

    def _turn(self) -> tuple[TimedRanking[Entry], bool]:
        """The line whose turn it is, and whether its caller had much less than others.

        Of the highest priority, the caller of the most urgent job, unless another has had much less
        of the device: then that one's jobs go first. Its shapes take turns.
        """
        level, caller = self._queue.level, self._queue.first.job.caller
        is_owed = level.turns.lead_s(caller) > LEAD_JOB_COUNT * self._typical.usual_s
        if is_owed:
            caller = level.turns.next()
        owner = level.callers[caller]
        return owner.lines[owner.turns.next()], is_owed

    def _on_time(self, batch: Batch, now_s: float) -> Batch:
        """A batch, or as much of it as leaves everyone promised on time."""
        takes_s = self._takes_s(batch)
        outlook, spare_s = self._spare.at(now_s)
        if takes_s <= spare_s or not outlook.chosen:
            return batch
        lead = next(iter(outlook.chosen))
        counts = Counter(step.job_id for step in batch.steps)
        has_all = all(counts[entry.job.job_id] >= count for entry, count in outlook.chosen.items())
        spare_s = max(0.0, spare_s)
        needed_s = self.costs.least_step_s(lead.shape.key, outlook.row_count)
        if has_all and takes_s - needed_s <= spare_s:
            return batch
        others = self._late.in_order(self._queue.group(lead), now_s)
        return filled(
            others, self.costs, self.shared, lead=lead, chosen=outlook.chosen, spare_s=spare_s
        )

    def _look(self, now_s: float) -> tuple[Outlook, float]:
        """Plays the promises, without those that can no longer be kept."""
        while self._late.give_way(self._promises.front(), now_s):
            pass
        outlook = self._promises.outlook(now_s, frozenset())
        return outlook, self._promises.spare_s(outlook)

    def _needed_s(self, outlook: Outlook) -> float:
        """Seconds of the step that the promises need next."""
        return self.costs.step_s(next(iter(outlook.chosen)).shape.key, outlook.row_count)

    def _done_s(self, entry: Entry, now_s: float, played: Played | None = None) -> float:
        """Seconds until an entry is done, with what may be expected to overtake it."""
        played = {} if played is None else played
        line_s = own_s(self._queue, entry, self._paces.of(entry.shape), self._running, played)
        busy_s = max(0.0, self._busy_until_s - now_s)
        done_s = busy_s + line_s + self._queue.others_s(entry, line_s)
        return self._recent.delayed_s(
            done_s, now_s=now_s, place_s=entry.sort_s, priority=entry.job.spec.priority
        )
