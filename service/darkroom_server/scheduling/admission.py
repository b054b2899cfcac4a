"""Whether a job is taken in, and what is promised to it. Pure: the worker and the bench ask it."""

from __future__ import annotations

from dataclasses import dataclass

from darkroom_server.domain.errors import DarkroomError, DeadlineExceeded, QueueFull
from darkroom_server.domain.jobs import Job

#: On an idle device a job is refused only when it would take this many times the time it has: an
#: estimate that is too high is corrected by what runs, and not by what is refused.
IDLE_REFUSAL_FACTOR = 4.0
#: A promise has room for steps that take longer than foreseen: it is given where the job would be
#: in time if everything took this many times as long.
PROMISE_MARGIN = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What taking a job in would mean.

    `done_s`: seconds until it is denoised and decoded, with what may be expected to overtake it.
    `kept_s`: seconds until then if it is promised; None without a deadline.
    `breaks_until_s`: the last deadline that others would miss by it, and would not without it.
    `left_margin`: factor by which everything may take longer, for what is to be left until its
    deadline to higher priorities.
    """

    done_s: float
    kept_s: float | None
    breaks_until_s: float | None
    left_margin: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A job is taken in.

    `reserve_s`: how long before its deadline it is to be done, if that is promised; None where it
    is not. `behind_s`: it goes behind what has to be done by then.
    """

    reserve_s: float | None = None
    behind_s: float | None = None


def decide(
    job: Job, forecast: Forecast | None, now_s: float, *, is_idle: bool, is_accepted: bool = False
) -> Admission | DarkroomError:
    """Admits a job, or gives the reason why not.

    `forecast` None: the cost of its steps is unknown, so nothing is promised or refused.
    `is_accepted`: its caller has its `accepted` event; it is not refused in favour of others.
    """
    if forecast is None:
        return Admission()
    if job.deadline_s is None:
        return Admission(behind_s=forecast.breaks_until_s)
    late = late_refusal(job, forecast.done_s, now_s, is_idle=is_idle)
    if late is not None:
        return late
    if forecast.breaks_until_s is not None and not is_accepted:
        return QueueFull(
            "There is no room before its deadline: requests that are here would miss theirs.",
            retry_after_s=forecast.breaks_until_s - now_s,
        )
    left_s, kept_s = job.deadline_s - now_s, forecast.kept_s or forecast.done_s
    wanted_s = PROMISE_MARGIN * kept_s
    if wanted_s * forecast.left_margin > left_s and not (is_idle or is_accepted):
        return too_late(left_s, wanted_s * forecast.left_margin)
    if kept_s > left_s:
        # An idle device tries it, and what runs again goes on; neither holds up others for it.
        return Admission()
    return Admission(reserve_s=min(wanted_s, left_s) - kept_s)


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
    return too_late(remaining_s, estimated_s)


def too_late(remaining_s: float, estimated_s: float) -> DeadlineExceeded:
    """The refusal of what cannot be done in time."""
    return DeadlineExceeded(
        f"The deadline is {max(0.0, remaining_s):.3g} s away, and the images would take about"
        f" {estimated_s:.3g} s, waiting included."
    )
