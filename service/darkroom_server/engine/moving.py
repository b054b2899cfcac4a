"""Jobs between slots: some at a time, so that the event loop goes on. Loop-bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from darkroom_server.engine.active_job import ActiveJob
from darkroom_server.engine.worker_slot import SLICE_COUNT


class Moving:
    """Jobs that lost their slot, in order. `place` finds another for one, or ends it.

    `place` also gets the reason why the slot was lost.
    """

    def __init__(self, place: Callable[[ActiveJob, str], None]) -> None:
        self._place = place
        self._jobs: dict[str, tuple[ActiveJob, str]] = {}
        #: Whether the loop will come back to them.
        self._is_due = False

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, jobs: Iterable[ActiveJob], why: str) -> None:
        """Jobs lost their slot; the first are placed at once."""
        self._jobs |= {active.job.job_id: (active, why) for active in jobs}
        if not self._is_due:
            self._place_some()

    def remove(self, job_id: str) -> bool:
        """A job is wanted no more; whether it was here."""
        return self._jobs.pop(job_id, None) is not None

    def release(self) -> list[ActiveJob]:
        """Gives up all of them."""
        released = [active for active, _ in self._jobs.values()]
        self._jobs.clear()
        return released

    def _place_some(self) -> None:
        self._is_due = False
        for _ in range(min(SLICE_COUNT, len(self._jobs))):
            job_id = next(iter(self._jobs))
            self._place(*self._jobs.pop(job_id))
        if self._jobs:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._place_some)
