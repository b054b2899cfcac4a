"""Which images share the next denoising step. Pure: no I/O, no clock of its own.

The verbs: `add` and `remove` a job, `plan` the next batch, `commit` what it cost. A batch holds
images of one key. Which key: the one whose turn it is (`fairness.py`), unless an image of another
would otherwise miss its deadline. Which images: by priority, then earliest deadline first, up to
the knee of the key's cost curve (`step_costs.py`). Images without a deadline are ordered by one
that grows with their length, so that short ones go first and long ones age to the front.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from darkroom_server.domain.jobs import Job
from darkroom_server.scheduling.fairness import FairTurns
from darkroom_server.scheduling.step_costs import StepCosts

#: Images without a deadline are ordered as if they had to be done within this many times the
#: time they take alone.
SLACK_FACTOR = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the batcher knows of a job's images: all of one job are alike.

    `key`: images with equal keys may share a step. `rows`: denoiser rows of one image.
    `alone`: no image of it shares a step, so that its pixels are those of a batch of one.
    """

    key: Hashable
    rows: int
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
    arrived_s: float
    sort_s: float
    #: Steps left by image; an image leaves when it is finished.
    remaining: dict[int, int]

    @property
    def group(self) -> Hashable:
        """What takes turns: the key, apart for images that share steps and images that do not."""
        return (self.shape.key, self.shape.alone)

    def left_s(self, step_s: float) -> float:
        """Time that the slowest image still takes."""
        return max(self.remaining.values(), default=0) * step_s


class StepBatcher:
    """The jobs of one worker."""

    def __init__(self, costs: StepCosts) -> None:
        self._costs = costs
        self._entries: dict[str, _Entry] = {}
        self._turns = FairTurns()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, job: Job, shape: Shape, now_s: float) -> None:
        """Takes a job in."""
        spec = job.spec
        alone_s = spec.step_count * len(spec.seeds) * self._costs.step_s(shape.key, shape.rows)
        sort_s = job.deadline_s if job.deadline_s is not None else now_s + SLACK_FACTOR * alone_s
        remaining = dict.fromkeys(range(len(spec.seeds)), spec.step_count)
        self._entries[job.job_id] = _Entry(job, shape, now_s, sort_s, remaining)

    def remove(self, job_id: str) -> None:
        """Takes a job out: cancelled, failed or done. Unknown ids are ignored."""
        self._entries.pop(job_id, None)

    def expired(self, now_s: float) -> tuple[Job, ...]:
        """Jobs whose deadline has passed."""
        return tuple(
            entry.job
            for entry in self._entries.values()
            if entry.job.deadline_s is not None and entry.job.deadline_s <= now_s
        )

    def order(self, now_s: float) -> tuple[str, ...]:
        """Job ids, the most urgent first."""
        return tuple(entry.job.job_id for entry in self._ranked(now_s))

    def plan(self, now_s: float) -> Batch | None:
        """The next batch, or None when there is nothing to do. Changes nothing."""
        ranked = self._ranked(now_s)
        if not ranked:
            return None
        highest = ranked[0].job.spec.priority
        first_class = [entry for entry in ranked if entry.job.spec.priority == highest]
        group = self._choose_group(first_class, now_s)
        return self._fill([entry for entry in ranked if entry.group == group])

    def commit(self, batch: Batch, finished: Sequence[Step], duration_s: float) -> None:
        """Books a batch that was run, and drops the images that it finished."""
        self._costs.learn(batch.key, batch.row_count, duration_s)
        for step in batch.steps:
            entry = self._entries.get(step.job_id)
            if entry is not None and step.image_index in entry.remaining:
                # Some schedulers evaluate more often than they step: there is one left at least.
                entry.remaining[step.image_index] = max(1, entry.remaining[step.image_index] - 1)
        for step in finished:
            entry = self._entries.get(step.job_id)
            if entry is not None:
                entry.remaining.pop(step.image_index, None)
                if not entry.remaining:
                    del self._entries[step.job_id]
        self._turns.charge(
            batch.group, duration_s, [entry.group for entry in self._entries.values()]
        )

    def _ranked(self, now_s: float) -> list[_Entry]:
        """By priority, then those that can still make it, then by deadline, then by arrival."""

        def rank(entry: _Entry) -> tuple[int, bool, float, float]:
            is_lost = self._slack_s(entry, now_s) < 0
            return (-entry.job.spec.priority, is_lost, entry.sort_s, entry.arrived_s)

        return sorted(self._entries.values(), key=rank)

    def _choose_group(self, entries: Sequence[_Entry], now_s: float) -> Hashable:
        """The group whose turn it is, unless a deadline of another cannot wait for its turn."""
        groups = {entry.group: entry.shape.key for entry in entries}
        if len(groups) == 1:
            return entries[0].group
        round_s = sum(self._costs.step_s(key, self._costs.knee(key)) for key in groups.values())
        least_slack_s, urgent = round_s, None
        for entry in entries:
            slack_s = self._slack_s(entry, now_s)
            if 0 <= slack_s < least_slack_s:
                least_slack_s, urgent = slack_s, entry
        return urgent.group if urgent is not None else self._turns.next(groups)

    def _slack_s(self, entry: _Entry, now_s: float) -> float:
        """Time an entry can still wait; infinite without a deadline, negative when lost."""
        if entry.job.deadline_s is None:
            return math.inf
        step_s = self._costs.step_s(entry.shape.key, entry.shape.rows)
        return entry.job.deadline_s - now_s - entry.left_s(step_s)

    def _fill(self, ranked: Sequence[_Entry]) -> Batch:
        """Images of one group up to the knee; looks past those that do not fit."""
        first = ranked[0]
        # Alone, the most urgent runs on to its end: taking turns would make everyone wait longer.
        room = first.shape.rows if first.shape.alone else self._costs.knee(first.shape.key)
        ranked = ranked[:1] if first.shape.alone else ranked
        steps: list[Step] = []
        row_count = 0
        for entry in ranked:
            # The images of a job advance side by side: those with the most steps left go first.
            for index in sorted(entry.remaining, key=lambda i: (-entry.remaining[i], i)):
                if not steps or row_count + entry.shape.rows <= room:
                    steps.append(Step(entry.job.job_id, index))
                    row_count += entry.shape.rows
        return Batch(
            key=first.shape.key, group=first.group, steps=tuple(steps), row_count=row_count
        )
