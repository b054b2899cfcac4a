"""Counts open calls, with a limit; those beyond it end with a status."""

from __future__ import annotations

import asyncio
import enum
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from darkroom_server.domain.errors import QueueFull


class CallKind(enum.Enum):
    """Calls that have limits of their own, so that none of them keeps others out."""

    #: Needs a key, where there are keys.
    WORK = "work"
    #: Health and reflection, for which no key is needed; they may stay open without end.
    PROBE = "probe"
    #: A stream of load reports, of which every balancing client has one for each server.
    LOAD_REPORTS = "load reports"


#: Far above what models let wait: reached by calls that only are open.
MAX_CALLS = {CallKind.WORK: 20_000, CallKind.PROBE: 1_000, CallKind.LOAD_REPORTS: 4_000}
_RETRY_S = 1.0
#: Before the port closes: looks in a row at which nothing may have happened, the pause between two,
#: how long it is waited for calls that do not end, and how long at most.
_STILL_COUNT, _LOOK_S, _STUCK_S, _LIMIT_S = 5, 0.04, 1.0, 2.0


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
        self._counts: Counter[CallKind] = Counter()
        self._begun_count = 0

    @contextmanager
    def one(self, kind: CallKind) -> Iterator[Room]:
        """One call, for as long as it is open."""
        self._counts[kind] += 1
        self._begun_count += kind is CallKind.WORK
        try:
            yield Room(self._counts[kind] <= MAX_CALLS[kind])
        finally:
            self._counts[kind] -= 1

    async def settled(self) -> None:
        """Returns when no call is open and none arrives, or open calls make no progress.

        gRPC cancels calls that have arrived and were not started when the port closes: without a
        reason, as if the caller had left. So they are started, and end with a reason.
        """
        began_s, seen, still_count = time.monotonic(), (-1, -1), 0
        while still_count < _STILL_COUNT:
            await asyncio.sleep(_LOOK_S)
            now = (self._begun_count, self._counts[CallKind.WORK])
            waited_s = time.monotonic() - began_s
            is_still = now == seen and (not now[1] or waited_s >= _STUCK_S)
            seen, still_count = now, still_count + 1 if is_still else 0
            if waited_s >= _LIMIT_S:
                return
