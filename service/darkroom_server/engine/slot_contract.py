"""What a version's jobs are given to: a worker of this machine, or whatever else runs them."""

from __future__ import annotations

from typing import Protocol

from darkroom_server.domain.jobs import JobCompleted
from darkroom_server.domain.model_status import LoadProgress
from darkroom_server.domain.models import Dtype
from darkroom_server.engine.active_job import ActiveJob
from darkroom_server.lifecycle.worker_states import WorkerState
from darkroom_server.worker.messages import WorkerStats


class SlotOwner(Protocol):
    """Gets a slot's notifications."""

    def slot_changed(self, slot: ServingSlot) -> None:
        """Its state is another."""

    def job_ended(self, job_id: str, completed: JobCompleted | None) -> None:
        """A job is over; None when it was not completed."""


class ServingSlot(Protocol):
    """Runs the jobs of one version. Loop-bound.

    `message`: why, when RESTARTING or FAILED. `stats`: as reported last. `dtype`, `made_by`: what
    is computed in, and the libraries and device that compute, once loaded.
    """

    state: WorkerState
    message: str
    memory_bytes: int
    stats: WorkerStats
    progress: LoadProgress
    dtype: Dtype | None
    made_by: str
    jobs: dict[str, ActiveJob]

    @property
    def width(self) -> int:
        """Workers that it stands for."""
        ...

    @property
    def note(self) -> str:
        """What is to be said of the workers while they serve."""
        ...

    @property
    def pid(self) -> int | None:
        """The worker's process id, where it is this machine's."""
        ...

    async def start(self) -> None:
        """Starts what runs jobs; returns before the model is loaded."""
        ...

    async def stop(self) -> None:
        """Ends it; jobs still here are left to the owner."""
        ...

    def submit(self, active: ActiveJob) -> None:
        """Takes a job, to run as soon as it can."""
        ...

    def cancel(self, job_id: str) -> None:
        """Forgets a job and stops the work on it."""
        ...

    def release(self, *, waiting_only: bool) -> list[ActiveJob]:
        """Releases its jobs, or those that nothing has begun, for another slot."""
        ...

    def check_hang(self, now_s: float) -> None:
        """Ends what has been silent for too long."""
        ...
