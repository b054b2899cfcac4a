"""Jobs that can no longer make their deadlines: they give way to those that can.

Pure: times come in as arguments.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

from darkroom_server.scheduling.entry import Entry, Shape
from darkroom_server.scheduling.pace import Pace
from darkroom_server.scheduling.play import MAX_LOOKED_PAST
from darkroom_server.scheduling.promises import Promises
from darkroom_server.scheduling.queue import JobQueue

#: A promise is given up when its job would need this many times the time that is left: an
#: estimate may be wrong, and a job that gives way is surely late.
HOPELESS_FACTOR = 1.5


class Lateness:
    """Who of a queue is late. `changed` is called when a promise is given up, or taken up again."""

    def __init__(
        self,
        queue: JobQueue,
        promises: Promises,
        pace_of: Callable[[Shape], Pace],
        *,
        changed: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._promises = promises
        self._pace_of = pace_of
        self._changed = changed
        #: Those that gave way, first the one that did longest ago.
        self._lost: dict[str, Entry] = {}

    def forget(self, job_id: str) -> None:
        """A job is here no more. Unknown ids are ignored."""
        self._lost.pop(job_id, None)

    def is_late(self, entry: Entry, now_s: float) -> bool:
        """Whether an entry can no longer make its deadline, also by itself."""
        if entry.job.deadline_s is None:
            return False
        patience = HOPELESS_FACTOR if entry.is_promised else 1.0
        least_s = self._pace_of(entry.shape).least_s(entry.load(frozenset()))
        return least_s > patience * (entry.job.deadline_s - now_s)

    def give_way(self, entries: Iterable[Entry], now_s: float) -> bool:
        """Puts those of them that are late behind those that are not; whether any was."""
        has_moved = False
        for entry in entries:
            if not entry.is_lost and self.is_late(entry, now_s):
                self._move(entry, is_lost=True)
                has_moved = True
        return has_moved

    def find_again(self, now_s: float) -> None:
        """Gives some of those that were found late their places back, where that was an error.

        It is when a step was disturbed, and its key seemed to cost more than it does.
        """
        for entry in list(itertools.islice(self._lost.values(), MAX_LOOKED_PAST)):
            if not self.is_late(entry, now_s):
                self._move(entry, is_lost=False)

    def in_order(self, group: Iterable[Entry], now_s: float) -> Iterator[Entry]:
        """A group's entries, those found late on the way after the others of their priority."""
        late: list[Entry] = []
        for entry in group:
            if late and (entry.is_lost or entry.rank[0] != late[0].rank[0]):
                yield from late
                late = []
            may_wait = len(late) < MAX_LOOKED_PAST and not entry.is_lost
            if may_wait and self.is_late(entry, now_s):
                late.append(entry)
            else:
                yield entry
        yield from late

    def _move(self, entry: Entry, *, is_lost: bool) -> None:
        """Puts an entry behind those that can make their deadlines, or back among them."""
        self._queue.move(entry, is_lost=is_lost)
        if is_lost:
            self._lost[entry.job.job_id] = entry
            self._promises.remove(entry)
        else:
            del self._lost[entry.job.job_id]
            if entry.is_promised:
                self._promises.add(entry)
        if entry.is_promised:
            self._changed()
