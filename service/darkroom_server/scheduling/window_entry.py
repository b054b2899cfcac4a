"""What the window batcher knows of a job, and of the jobs that may run together."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from dataclasses import dataclass, field

from darkroom_server.domain.jobs import Job
from darkroom_server.scheduling.ranking import Rank, Ranking
from darkroom_server.scheduling.run_kinds import RunKind, run_step_count

#: So many that are gone may be left among those that wait, besides as many as do.
SPARE_DUE_COUNT = 16


@dataclass(slots=True, eq=False)
class WindowEntry:
    """A job in the batcher."""

    job: Job
    kind: RunKind
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
    #: One of its images, at a pace of one pixel a second: what runs take is not known here.
    image_s: float = field(init=False)
    #: Of its images, those that run now.
    running_count: int = 0
    has_begun: bool = False
    #: Whether it has waited too long and lets others pass.
    is_delayed: bool = False
    #: Whether it is in the batcher no more.
    is_gone: bool = False

    def __post_init__(self) -> None:
        self.image_s = float(self.kind.step_px * run_step_count(self.job.spec))

    @property
    def rank(self) -> Rank:
        """By level, then those that have not waited too long, then by deadline, then arrival."""
        return (self.level, self.is_delayed, self.sort_s, self.number)

    @property
    def work_s(self) -> float:
        """What waits of it."""
        return self.image_s * (len(self.remaining) - self.running_count)


@dataclass(slots=True, eq=False)
class WindowGroup:
    """Jobs that may run together."""

    entries: Ranking[WindowEntry] = field(default_factory=Ranking)
    #: When those here have waited long enough for others; some may be gone.
    dues: list[tuple[float, int, WindowEntry]] = field(default_factory=list)
    #: As the batcher's orders have it: its first entry, and when a batch of it is to run.
    rank: Rank = ()
    ready_s: float | None = None
    #: Whether it is among those that a batch may be of at once.
    is_ready: bool = False

    def add(self, entry: WindowEntry) -> None:
        """A job comes."""
        self.entries.add(entry)
        heapq.heappush(self.dues, (entry.due_s, entry.number, entry))

    def remove(self, entry: WindowEntry) -> None:
        """A job goes."""
        self.entries.remove(entry)
        entry.is_gone = True
        if len(self.dues) > 2 * len(self.entries) + SPARE_DUE_COUNT:
            self.dues = [one for one in self.dues if not one[-1].is_gone]
            heapq.heapify(self.dues)

    def due_s(self) -> float:
        """When one of those here will have waited long enough."""
        while self.dues[0][-1].is_gone:
            heapq.heappop(self.dues)
        return self.dues[0][0]
