"""How many calls a second end, over the last while."""

from __future__ import annotations

#: What counts: between this long and twice as long.
WINDOW_S = 10.0


class CallRate:
    """From the counts of this window and of the one before, of which a part still counts."""

    def __init__(self) -> None:
        self._window = 0
        self._count = self._count_before = 0

    def count(self, now_s: float) -> None:
        """Another call has ended."""
        self._turn(now_s)
        self._count += 1

    def per_s(self, now_s: float) -> float:
        """Calls a second."""
        self._turn(now_s)
        left = 1.0 - now_s / WINDOW_S % 1.0
        return (self._count_before * left + self._count) / WINDOW_S

    def _turn(self, now_s: float) -> None:
        window = int(now_s // WINDOW_S)
        if window != self._window:
            self._count_before = self._count if window == self._window + 1 else 0
            self._window, self._count = window, 0
