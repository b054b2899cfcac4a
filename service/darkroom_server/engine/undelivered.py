"""What has been made and not been read yet: bounded for each call and in all. Loop-bound."""

from __future__ import annotations

from collections.abc import Callable


class Held:
    """What waits for one reader. `end` gives up the reader; it calls `release`."""

    __slots__ = ("_of", "end", "held_bytes")

    def __init__(self, of: Undelivered, end: Callable[[], None]) -> None:
        self._of = of
        self.end = end
        self.held_bytes = 0

    def add(self, count_bytes: int) -> None:
        """More waits; readers may be given up for it, this one too."""
        self._of.add(self, count_bytes)

    def drop(self, count_bytes: int) -> None:
        """So much was read; nothing happens when all was released before."""
        self._of.drop(self, min(count_bytes, self.held_bytes))

    def release(self) -> None:
        """Nothing waits any more."""
        self.drop(self.held_bytes)


class Undelivered:
    """All that waits.

    A single image may have more than `max_call_bytes`. When more than `max_bytes` wait, those go
    for whom most does.
    """

    def __init__(self, *, max_bytes: int, max_call_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._max_call_bytes = max_call_bytes
        self._all: set[Held] = set()
        #: Bytes that wait now.
        self.total_bytes = 0

    def hold(self, end: Callable[[], None]) -> Held:
        """For one reader."""
        return Held(self, end)

    def add(self, held: Held, count_bytes: int) -> None:
        """See `Held.add`."""
        was_empty = held.held_bytes == 0
        held.held_bytes += count_bytes
        self.total_bytes += count_bytes
        self._all.add(held)
        if held.held_bytes > self._max_call_bytes and not was_empty:
            held.end()
        while self.total_bytes > self._max_bytes:
            max(self._all, key=lambda one: one.held_bytes).end()

    def drop(self, held: Held, count_bytes: int) -> None:
        """See `Held.drop`."""
        held.held_bytes -= count_bytes
        self.total_bytes -= count_bytes
        if held.held_bytes == 0:
            self._all.discard(held)
