"""When a worker that died, or could not be started, is started again. Pure but for its counts."""

from __future__ import annotations

from dataclasses import dataclass

#: Deaths in a row with no job in progress after which a worker is not started again: a job done,
#: or `STABLE_S` of service, begins a new row.
MAX_DEATHS = 5
STABLE_S = 30.0
#: Loads in a row that may fail for lack of memory; with the delays they take most of a minute.
MAX_STARVED_LOADS = 10
FIRST_RESTART_DELAY_S, MAX_RESTART_DELAY_S = 0.1, 10.0


@dataclass(slots=True)
class Restarts:
    """The failures of one worker, each kind counted in a row. Mutable.

    Failures give the seconds to wait before the next start, None when there is to be none.
    """

    #: Deaths with no job in progress: those that a job may have caused do not count.
    death_count: int = 0
    _restart_count: int = 0
    _refused_start_count: int = 0
    _starved_load_count: int = 0
    _ready_since_s: float | None = None

    def started(self) -> None:
        """There is a process."""
        self._refused_start_count = 0

    def ready(self, now_s: float) -> None:
        """The model is loaded."""
        self._ready_since_s, self._starved_load_count = now_s, 0

    def job_completed(self) -> None:
        """The worker works."""
        self.death_count = self._restart_count = 0

    def died(self, now_s: float, *, was_at_work: bool) -> float | None:
        """The process ended by itself."""
        since_s, self._ready_since_s = self._ready_since_s, None
        if since_s is not None and now_s - since_s >= STABLE_S:
            self.death_count = self._restart_count = 0
        self.death_count += not was_at_work
        self._restart_count += 1
        return None if self.death_count >= MAX_DEATHS else _delay_s(self._restart_count)

    def not_started(self) -> float:
        """The system refused a process: the version is not to blame, so that there is no limit."""
        self._refused_start_count += 1
        return _delay_s(self._refused_start_count)

    def starved(self) -> float | None:
        """The machine had no room for the load."""
        self._ready_since_s = None
        if self._starved_load_count >= MAX_STARVED_LOADS:
            return None
        self._starved_load_count += 1
        return _delay_s(self._starved_load_count)


def _delay_s(attempt_count: int) -> float:
    """Exponential back-off."""
    exponent = min(attempt_count - 1, 10)
    return min(MAX_RESTART_DELAY_S, FIRST_RESTART_DELAY_S * 2.0**exponent)
