"""A job that was admitted and has not ended, as the server keeps it. Loop-bound."""

from __future__ import annotations

from dataclasses import dataclass, replace

from darkroom_server.domain.jobs import Job, JobCompleted
from darkroom_server.engine.stream import JobStream


@dataclass(slots=True, eq=False)
class ActiveJob:
    """A job that was admitted and has not ended."""

    job: Job
    stream: JobStream
    #: When it was admitted, on the monotonic clock.
    admitted_s: float
    #: When a worker was last given it, and how long it has waited for one that could take it.
    given_s: float = 0.0
    load_s: float = 0.0
    #: Since when it waits for a worker that can take it.
    waits_since_s: float | None = None
    #: Times that a worker died while it was at work on this.
    attempt_count: int = 0
    is_begun: bool = False
    #: Whether anything was told of it: then its caller knows that it is accepted.
    is_promised: bool = False
    #: Seconds from admission that it was first said to take, and whether it has had a preview.
    estimated_s: float | None = None
    has_preview: bool = False

    def wait(self, now_s: float) -> None:
        """There is no worker that can take it."""
        if self.waits_since_s is None:
            self.waits_since_s = now_s

    def give(self, now_s: float) -> None:
        """A worker is given it."""
        if self.waits_since_s is not None:
            self.load_s += now_s - self.waits_since_s
        self.given_s, self.waits_since_s, self.is_begun = now_s, None, False

    def completed(self, told: JobCompleted, now_s: float) -> JobCompleted:
        """What a worker told of it, with the time that passed before it was given it."""
        before_s = self.given_s - self.admitted_s
        timings = replace(
            told.timings,
            queue_s=told.timings.queue_s + before_s - self.load_s,
            load_s=self.load_s,
            total_s=now_s - self.admitted_s,
        )
        return replace(told, timings=timings)
