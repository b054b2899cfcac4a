"""A job that was admitted and has not ended, as the server keeps it. Loop-bound."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from darkroom_server.domain.errors import DarkroomError, WorkerLost, WorkersKilled
from darkroom_server.domain.jobs import Job, JobCompleted
from darkroom_server.engine.stream import JobStream
from darkroom_server.worker.messages import EarlierWork, KeptImage, SavedImage

#: A job fails after this many deaths of workers that ran it without coming further than before;
#: and after this many in all.
MAX_JOB_ATTEMPTS = 3
MAX_JOB_DEATHS = 10
#: Retry delay sent to a caller whose workers were killed.
KILLED_RETRY_S = 2.0


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
    #: Deaths of workers that ran this, and those since it came further.
    death_count: int = 0
    attempt_count: int = 0
    #: Whether all that died under it were killed from outside.
    only_killed: bool = True
    is_begun: bool = False
    #: Whether more of it is kept or made than when a worker was given it.
    has_advanced: bool = False
    #: By image: where its state lies in the worker's memory, and what a dead worker left of it.
    _saved: dict[int, SavedImage] = field(default_factory=dict)
    _kept: dict[int, KeptImage] = field(default_factory=dict)
    _made_images: set[int] = field(default_factory=set)
    #: Whether its caller has any event of it, and so knows that it is accepted.
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
        self.has_advanced = False

    def died(self, *, was_killed: bool = False) -> None:
        """The worker died while it ran this; `was_killed`: by a signal from outside."""
        self.is_begun = False
        self.only_killed = self.only_killed and was_killed
        self.death_count += 1
        self.attempt_count = 1 if self.has_advanced else self.attempt_count + 1

    @property
    def is_suspected(self) -> bool:
        """Whether enough workers died while they ran it that it counts as the cause."""
        return self.attempt_count >= MAX_JOB_ATTEMPTS or self.death_count >= MAX_JOB_DEATHS

    def given_up(self) -> DarkroomError:
        """What it ends with: what others have killed is not held against it."""
        count = self.death_count
        if self.only_killed:
            text = f"{count} workers were killed, one after another, while they ran this."
            return WorkersKilled(text, retry_after_s=KILLED_RETRY_S)
        return WorkerLost(f"The worker died {count} times while it ran this.")

    def saved(self, one: SavedImage) -> None:
        """The worker keeps one of its images."""
        if one.image_index not in self._made_images:
            self._saved[one.image_index] = one
            self._kept.pop(one.image_index, None)
            self.has_advanced = True

    def made(self, image_index: int) -> None:
        """One of its images is there."""
        self._made_images.add(image_index)
        self._saved.pop(image_index, None)
        self._kept.pop(image_index, None)
        self.has_advanced = True

    def left_behind(self) -> list[SavedImage]:
        """What the worker had kept; returned once."""
        left, self._saved = list(self._saved.values()), {}
        return left

    def keep(self, one: KeptImage) -> None:
        """The state of an image, with which another worker goes on."""
        self._kept[one.image_index] = one

    @property
    def kept_bytes(self) -> int:
        """What states take that are kept here."""
        return sum(len(one.state) for one in self._kept.values())

    def earlier(self) -> EarlierWork:
        """What need not be done again."""
        if not self._made_images and not self._kept:
            return EarlierWork()
        return EarlierWork(
            made_images=tuple(self._made_images),
            step_count=self.stream.progress[1] or self.job.spec.step_count,
            kept=tuple(self._kept.values()),
        )

    def completed(self, event: JobCompleted, now_s: float) -> JobCompleted:
        """The worker's event, with the time before the worker got the job added."""
        before_s = self.given_s - self.admitted_s
        timings = replace(
            event.timings,
            queue_s=event.timings.queue_s + before_s - self.load_s,
            load_s=self.load_s,
            total_s=now_s - self.admitted_s,
        )
        return replace(event, timings=timings)
