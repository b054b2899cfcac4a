"""Whose turn it is: start-time fair queueing by device seconds, for callers and for shapes.

Each key has a virtual time, the seconds of device time it has had over its weight. The key with the
least goes next, and one that comes back after a pause starts level with the one that has had least,
so that it can neither save up turns nor owe them. What a key is given out of turn, for a promise or
because its batch had room, makes it owe a bounded time at most. So where steps cost the same and
nothing more than a step is owed, a key that has work waits for at most two steps of every other key
taken in turn; where they do not, keys get equal time instead of equal steps.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, insort
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

#: Keys without work whose debts are remembered, besides as many as there are with work.
REMEMBERED_COUNT = 64

Key = TypeVar("Key", bound=Hashable)


class FairTurns(Generic[Key]):
    """Device time had by each key that has work. Pure; every verb costs a search."""

    def __init__(self) -> None:
        self._had_s: dict[Key, float] = {}
        self._weights: dict[Key, float] = {}
        self._numbers: dict[Key, int] = {}
        #: Time had and which came first, in order, and the keys beside it.
        self._order: list[tuple[float, int]] = []
        self._keys: dict[int, Key] = {}
        #: What keys without work had, while the others are not level with them.
        self._owed_s: dict[Key, float] = {}
        self._floor_s = 0.0
        self._next_number: Iterator[int] = itertools.count()

    def join(self, key: Key, *, weight: float = 1.0) -> None:
        """A key has work from now on; its time counts by its weight."""
        number = next(self._next_number)
        self._numbers[key], self._keys[number], self._weights[key] = number, key, weight
        self._had_s[key] = max(self._owed_s.pop(key, self._floor_s), self._floor_s)
        insort(self._order, (self._had_s[key], number))

    def leave(self, key: Key) -> None:
        """A key has no more work; what it owes is remembered until the others are level."""
        number = self._numbers.pop(key)
        had_s = self._had_s.pop(key)
        del self._keys[number], self._weights[key]
        del self._order[bisect_left(self._order, (had_s, number))]
        if not self._order:
            # Nobody waited: everyone is level.
            self._floor_s = max(self._floor_s, had_s, *self._owed_s.values())
            self._owed_s.clear()
        elif had_s > self._floor_s:
            self._owed_s[key] = had_s
            self._forget()

    def next(self) -> Key:
        """The key whose turn it is; of equals, the one that came first. Changes nothing."""
        return self._keys[self._order[0][1]]

    def lead_s(self, key: Key) -> float:
        """Seconds that a key has had more than the one whose turn it is."""
        return self._had_s[key] - self._order[0][0]

    def charge(self, key: Key, duration_s: float, *, most_owed_s: float = 0.0) -> None:
        """Charges a key for device time; its debt is at most that time or `most_owed_s`."""
        if key not in self._numbers:
            # Its work ended before it was booked.
            if self._order:
                had_s = self._owed_s.get(key, self._floor_s)
                self._owed_s[key] = min(had_s + duration_s, self._order[0][0] + most_owed_s)
                self._forget()
            return
        started_s, least_s = self._had_s[key], self._order[0][0]
        self._floor_s = max(self._floor_s, least_s)
        lasted_s = duration_s / self._weights[key]
        most_s = max(started_s, least_s + max(lasted_s, most_owed_s))
        number = self._numbers[key]
        del self._order[bisect_left(self._order, (started_s, number))]
        self._had_s[key] = min(started_s + lasted_s, most_s)
        insort(self._order, (self._had_s[key], number))

    def _forget(self) -> None:
        if len(self._owed_s) > REMEMBERED_COUNT + 2 * len(self._keys):
            kept = sorted(self._owed_s.items(), key=lambda one: one[1], reverse=True)
            self._owed_s = {
                key: had_s for key, had_s in kept[:REMEMBERED_COUNT] if had_s > self._floor_s
            }
