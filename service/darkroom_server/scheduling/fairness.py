"""Which key gets the device next: start-time fair queueing, weighted by measured step cost.

Each key has a virtual time, the seconds of device time it has had. The key with the least goes
next, and one that comes back after a pause starts level with the one that has had least, so that it
can neither save up turns nor owe them. What a key is given out of turn, for a deadline or a
priority, makes it owe a step at most. So where steps cost the same, a key that has work waits for
at most two steps of every other key taken in turn; where they do not, keys get equal time instead
of equal steps.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable


class FairTurns:
    """Device time had by each key that has work. Pure; keys are compared by equality only."""

    def __init__(self) -> None:
        self._had_s: dict[Hashable, float] = {}
        self._floor_s = 0.0

    def next(self, keys: Iterable[Hashable]) -> Hashable:
        """The key whose turn it is; of equals, the first given. Changes nothing."""
        return min(keys, key=self._time_s)

    def charge(self, key: Hashable, duration_s: float, live_keys: Collection[Hashable]) -> None:
        """Books a step of `key`; keys without work are forgotten once the others are level."""
        started_s = self._time_s(key)
        least_s = min((self._time_s(live) for live in live_keys), default=started_s)
        least_s = min(least_s, started_s)
        self._floor_s = max(self._floor_s, least_s)
        kept = {idle: had_s for idle, had_s in self._had_s.items() if had_s > self._floor_s}
        kept |= {live: self._time_s(live) for live in live_keys}
        kept[key] = max(started_s, least_s + duration_s)
        self._had_s = kept

    def _time_s(self, key: Hashable) -> float:
        return self._had_s.get(key, self._floor_s)
