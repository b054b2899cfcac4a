"""Whether a job is taken in at all: what provably cannot meet its deadline is refused at once."""

from __future__ import annotations

from darkroom_server.domain.errors import DeadlineExceeded
from darkroom_server.domain.jobs import Job

#: On an idle device a job is refused only when it would take this many times the time it has: an
#: estimate that is too high is corrected by what runs, and not by what is refused.
IDLE_REFUSAL_FACTOR = 4.0


def late_refusal(
    job: Job, estimated_s: float | None, now_s: float, *, is_idle: bool
) -> DeadlineExceeded | None:
    """Why a job is refused that would be done in `estimated_s`, or None when it is not."""
    if job.deadline_s is None or estimated_s is None:
        return None
    remaining_s = job.deadline_s - now_s
    patience = IDLE_REFUSAL_FACTOR if is_idle else 1.0
    if estimated_s <= patience * remaining_s:
        return None
    return DeadlineExceeded(
        f"The deadline is {max(0.0, remaining_s):.3g} s away, and the images would take about"
        f" {estimated_s:.3g} s, waiting included."
    )
