"""How much time the promises have to spare, between the times at which they are played."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from darkroom_server.scheduling.promises import Outlook

#: Steps after which the slack of promises is computed again.
OUTLOOK_STEPS = 8


@dataclass(slots=True)
class _Kept:
    """Their slack when it was computed, and how far they have come since."""

    outlook: Outlook
    spare_s: float
    at_s: float
    plan_count: int = 0
    step_count: int = 0
    progress_s: float = 0.0


class Spare:
    """The last simulation, while it is valid. `look` simulates the promises from a time on."""

    def __init__(self, look: Callable[[float], tuple[Outlook, float]]) -> None:
        self._look = look
        self._kept: _Kept | None = None

    def forget(self) -> None:
        """Promises came, went, or gave way."""
        self._kept = None

    def at(self, now_s: float) -> tuple[Outlook, float]:
        """What promises need, and the time that they have to spare now."""
        kept = self._kept
        if (
            kept is None
            or kept.plan_count >= OUTLOOK_STEPS
            or kept.step_count >= kept.outlook.step_count
        ):
            kept = self._kept = _Kept(*self._look(now_s), now_s)
        return kept.outlook, kept.spare_s - (now_s - kept.at_s) + kept.progress_s

    def book(self, image_counts: Mapping[str, int], least_s: Callable[[Outlook], float]) -> None:
        """Accounts for a step, by images of each job: a step that they needed, or could spare.

        `least_s` is what the step that they needed takes.
        """
        kept = self._kept
        if kept is None:
            return
        kept.plan_count += 1
        chosen = kept.outlook.chosen
        if chosen and all(
            image_counts.get(one.job.job_id, 0) >= count for one, count in chosen.items()
        ):
            kept.step_count += 1
            kept.progress_s += least_s(kept.outlook)
