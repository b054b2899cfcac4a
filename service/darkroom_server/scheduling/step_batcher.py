"""Which image takes the next denoising step. Pure: no I/O, no clock of its own.

Today a batch holds one image, so every picture is bit-equal to one made alone. Requests run by
priority, then in the order they came; the images of one request advance side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

from darkroom_server.domain.jobs import Job


@dataclass(frozen=True, slots=True)
class Step:
    """One denoising step of one image."""

    job_id: str
    image_index: int


class _Entry:
    __slots__ = ("job", "remaining")

    def __init__(self, job: Job) -> None:
        self.job = job
        #: Steps still to plan, by image; an image leaves when it has none.
        self.remaining = dict.fromkeys(range(len(job.spec.seeds)), job.spec.step_count)


class StepBatcher:
    """The jobs of one worker, in the order in which they run."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, job: Job) -> None:
        """Lines a job up behind those of its priority."""
        place = len(self._entries)
        while place and self._entries[place - 1].job.spec.priority < job.spec.priority:
            place -= 1
        self._entries.insert(place, _Entry(job))

    def remove(self, job_id: str) -> None:
        """Takes a job out: cancelled, failed or done. Unknown ids are ignored."""
        self._entries = [entry for entry in self._entries if entry.job.job_id != job_id]

    def ahead_count(self, job_id: str) -> int:
        """Jobs that run before this one; KeyError if it is not here."""
        for count, entry in enumerate(self._entries):
            if entry.job.job_id == job_id:
                return count
        raise KeyError(job_id)

    def expired(self, now_s: float) -> tuple[Job, ...]:
        """Jobs whose deadline has passed."""
        return tuple(
            entry.job
            for entry in self._entries
            if entry.job.deadline_s is not None and entry.job.deadline_s <= now_s
        )

    def plan(self) -> Step | None:
        """The next step, or None when there is nothing to do. Changes nothing."""
        for entry in self._entries:
            if entry.remaining:
                image_index = max(entry.remaining, key=lambda i: (entry.remaining[i], -i))
                return Step(entry.job.job_id, image_index)
        return None

    def commit(self, step: Step, *, finished: bool) -> None:
        """Records that a planned step was taken; `finished` images take no more."""
        for entry in self._entries:
            if entry.job.job_id == step.job_id:
                entry.remaining[step.image_index] -= 1
                if finished:
                    del entry.remaining[step.image_index]
                if not entry.remaining:
                    self.remove(step.job_id)
                return
