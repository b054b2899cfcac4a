"""What has been made and not been read yet: bounded for each call and in all. Loop-bound."""

from __future__ import annotations

import time
from collections.abc import Callable


class Held:
    """What waits for one reader. `end` gives up the reader; it calls `release`.

    A reader whose answer is being collected cannot read yet: it is given up after those that could.
    """

    __slots__ = ("_of", "end", "held_bytes", "is_collected", "since_s")

    def __init__(self, of: Undelivered, end: Callable[[], None], *, is_collected: bool) -> None:
        self._of = of
        self.end = end
        self.is_collected = is_collected
        self.held_bytes = 0
        #: Since when nothing was read, by the clock of all.
        self.since_s = 0.0

    def add(self, count_bytes: int) -> None:
        """More waits; readers may be given up for it, this one too."""
        self._of.add(self, count_bytes)

    def drop(self, count_bytes: int) -> None:
        """Notes that bytes were read; nothing happens when all was released before."""
        self._of.drop(self, min(count_bytes, self.held_bytes))

    def release(self) -> None:
        """Nothing waits any more."""
        self.drop(self.held_bytes)


class Undelivered:
    """All that waits.

    A single image may have more than `max_call_bytes`. When more than `max_bytes` wait, those go
    for whom most has waited for longest without their reading any. `now` gives seconds by a clock
    that nobody sets.
    """

    def __init__(
        self, *, max_bytes: int, max_call_bytes: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.max_bytes = max_bytes
        self._max_call_bytes = max_call_bytes
        self._now = now
        self._all: set[Held] = set()
        #: Bytes that wait now.
        self.total_bytes = 0

    def hold(self, end: Callable[[], None], *, is_collected: bool = False) -> Held:
        """For one reader."""
        return Held(self, end, is_collected=is_collected)

    def add(self, held: Held, count_bytes: int) -> None:
        """See `Held.add`."""
        if count_bytes <= 0:
            return
        was_empty = held.held_bytes == 0
        if was_empty:
            held.since_s = self._now()
        held.held_bytes += count_bytes
        self.total_bytes += count_bytes
        self._all.add(held)
        if held.held_bytes > self._max_call_bytes and not was_empty:
            held.end()
        while self.total_bytes > self.max_bytes:
            now_s = self._now()
            max(self._all, key=lambda one: _weight(one, now_s)).end()

    def drop(self, held: Held, count_bytes: int) -> None:
        """See `Held.drop`."""
        if count_bytes <= 0:
            return
        held.held_bytes -= count_bytes
        self.total_bytes -= count_bytes
        held.since_s = self._now()
        if held.held_bytes == 0:
            self._all.discard(held)


def _weight(held: Held, now_s: float) -> tuple[float, int]:
    """The more, the sooner its reader is given up."""
    waited_s = 0.0 if held.is_collected else now_s - held.since_s
    return held.held_bytes * waited_s, held.held_bytes
