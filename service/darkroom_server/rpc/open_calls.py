"""How many calls are open: so many at most, and those beyond end with a status like others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from darkroom_server.domain.errors import QueueFull

#: Far above what models let wait: reached by calls that only are open.
MAX_CALLS = 20_000
#: Of health and reflection, for which no key is asked, and whose calls may stay for ever.
MAX_QUIET_CALLS = 1_000
_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Room:
    """Whether there is room for a call."""

    is_there: bool

    def require(self) -> None:
        """Raises QueueFull where there is none."""
        if not self.is_there:
            raise QueueFull("The server has as many calls as it can.", retry_after_s=_RETRY_S)


class OpenCalls:
    """Counts them. Bound to the event loop."""

    def __init__(self) -> None:
        self._counts: Counter[bool] = Counter()

    @contextmanager
    def one(self, *, quiet: bool) -> Iterator[Room]:
        """One call, for as long as it is open."""
        limit = MAX_QUIET_CALLS if quiet else MAX_CALLS
        self._counts[quiet] += 1
        try:
            yield Room(self._counts[quiet] <= limit)
        finally:
            self._counts[quiet] -= 1
