"""The jobs that wait or run, indexed by every order that is needed.

By rank over all, for queue positions; by group, for sharing a step; and by priority, caller and
group, for fairness. Each operation costs a few searches, however many jobs there are.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from darkroom_server.domain.jobs import Priority
from darkroom_server.scheduling.entry import Entry
from darkroom_server.scheduling.fairness import FairTurns
from darkroom_server.scheduling.ranking import Ranking, TimedRanking

#: Groups or callers that an estimate of their time goes through one by one.
MAX_COUNTED = 16
#: Work of an entry is counted again when less than this part of it is left.
RECOUNT_SHARE = 0.9


@dataclass(slots=True)
class CallerLines:
    """Jobs of one caller and priority, by group, and how they take turns."""

    lines: dict[Hashable, TimedRanking[Entry]] = field(default_factory=dict)
    turns: FairTurns[Hashable] = field(default_factory=FairTurns)
    work_s: float = 0.0


@dataclass(slots=True)
class Level:
    """Jobs of one priority, by caller, and how callers take turns."""

    callers: dict[str, CallerLines] = field(default_factory=dict)
    turns: FairTurns[str] = field(default_factory=FairTurns)
    work_s: float = 0.0


class JobQueue:
    """All entries of a batcher."""

    def __init__(self) -> None:
        self._all: TimedRanking[Entry] = TimedRanking()
        self._groups: dict[Hashable, Ranking[Entry]] = {}
        self._levels = {priority: Level() for priority in sorted(Priority, reverse=True)}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._all)

    @property
    def level(self) -> Level:
        """The highest priority that has jobs; there must be one."""
        return self._levels[self._all.first.job.spec.priority]

    @property
    def first(self) -> Entry:
        """The most urgent; there must be one."""
        return self._all.first

    def group(self, entry: Entry) -> Ranking[Entry]:
        """What may share its steps, in order."""
        return self._groups[entry.group]

    def line(self, entry: Entry) -> TimedRanking[Entry] | None:
        """Jobs of its priority, caller and group, in order."""
        owner = self._levels[entry.job.spec.priority].callers.get(entry.job.caller)
        return None if owner is None else owner.lines.get(entry.group)

    def count_before(self, entry: Entry) -> int:
        """Jobs that are more urgent."""
        return self._all.count_before(entry.rank)

    def add(self, entry: Entry) -> None:
        """Takes an entry in at its place."""
        level = self._levels[entry.job.spec.priority]
        caller, group = entry.job.caller, entry.group
        if caller not in level.callers:
            level.callers[caller] = CallerLines()
            level.turns.join(caller, weight=entry.job.weight)
        owner = level.callers[caller]
        if group not in owner.lines:
            owner.lines[group] = TimedRanking()
            owner.turns.join(group)
        owner.lines[group].add(entry)
        self._groups.setdefault(group, Ranking()).add(entry)
        self._all.add(entry)
        level.work_s += entry.work_s
        owner.work_s += entry.work_s

    def remove(self, entry: Entry) -> None:
        """Takes an entry out."""
        self._all.remove(entry)
        self._groups[entry.group].remove(entry)
        if not self._groups[entry.group]:
            del self._groups[entry.group]
        level = self._levels[entry.job.spec.priority]
        caller, group = entry.job.caller, entry.group
        owner = level.callers[caller]
        owner.lines[group].remove(entry)
        level.work_s = max(0.0, level.work_s - entry.work_s)
        owner.work_s = max(0.0, owner.work_s - entry.work_s)
        if not owner.lines[group]:
            del owner.lines[group]
            owner.turns.leave(group)
        if not owner.lines:
            del level.callers[caller]
            level.turns.leave(caller)

    def move(self, entry: Entry, *, is_lost: bool) -> None:
        """Puts an entry behind those that can make their deadlines, or back among them."""
        rankings = (self._all, self._groups[entry.group], self.line(entry))
        for ranking in rankings:
            if ranking is not None:
                ranking.remove(entry)
        entry.is_lost = is_lost
        for ranking in rankings:
            if ranking is not None:
                ranking.add(entry)

    def recount(self, entry: Entry, work_s: float) -> None:
        """Says how much work an entry has left."""
        level = self._levels[entry.job.spec.priority]
        owner = level.callers[entry.job.caller]
        level.work_s = max(0.0, level.work_s + work_s - entry.work_s)
        owner.work_s = max(0.0, owner.work_s + work_s - entry.work_s)
        entry.work_s = work_s
        self._all.touch(entry)
        owner.lines[entry.group].touch(entry)

    def charge(self, entry: Entry, duration_s: float, *, most_owed_s: float) -> None:
        """Charges device time to a job's caller, and to the group among the caller's groups."""
        level = self._levels[entry.job.spec.priority]
        level.turns.charge(entry.job.caller, duration_s, most_owed_s=most_owed_s)
        owner = level.callers.get(entry.job.caller)
        if owner is not None:
            owner.turns.charge(entry.group, duration_s)

    def others_s(self, entry: Entry, own_s: float) -> float:
        """Time that others take until a job's line, which takes `own_s`, is at its end.

        What is of a higher priority goes first. The other groups of its caller get as much time
        each, up to their work; then the other callers do, as far as they come before it in the
        order: the rest of theirs they get only when it is their turn.
        """
        level = self._levels[entry.job.spec.priority]
        higher_s = sum(
            self._levels[other].work_s for other in self._levels if other > entry.job.spec.priority
        )
        owner, line = level.callers.get(entry.job.caller), self.line(entry)
        line_s = 0.0 if line is None else line.work_s
        turns_s = 0.0
        if owner is not None:
            other_count = len(owner.lines) - (line is not None)
            if other_count <= MAX_COUNTED:
                turns_s = sum(
                    min(own_s, other.work_s) for other in owner.lines.values() if other is not line
                )
            else:
                turns_s = min(other_count * own_s, max(0.0, owner.work_s - line_s))
        caller_count = len(level.callers) - (owner is not None)
        if caller_count:
            ahead_s = self._all.work_before_s(entry.rank) - higher_s
            ahead_s -= 0.0 if line is None else line.work_before_s(entry.rank)
            theirs_s = level.work_s - (0.0 if owner is None else owner.work_s)
            most_s = caller_count * (own_s + turns_s)
            turns_s += max(0.0, min(most_s, ahead_s, theirs_s))
        return higher_s + turns_s
