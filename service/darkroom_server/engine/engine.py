"""The engine's face to the edges. (Signatures first; see git history.)"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from darkroom_server.domain.jobs import ImageSpec, JobEvent
from darkroom_server.domain.models import ModelInfo, ModelRef, ModelStatus


class Session:
    """A lease on one version of a model, for one request. Leaving it cancels what still runs."""

    job_id: str
    model: ModelInfo
    version: int
    digest: str

    async def submit(self, spec: ImageSpec, *, deadline_s: float | None) -> None:
        """Admits the job or raises QueueFull, Draining, ModelUnavailable, DeadlineExceeded.

        `deadline_s` is on `time.monotonic()`.
        """
        raise NotImplementedError

    def events(self) -> AsyncIterator[JobEvent]:
        """The job's events, JobCompleted last; raises what the job failed of."""
        raise NotImplementedError


class Engine:
    """Turns requests into jobs on workers. Bound to one event loop."""

    def open(self, ref: ModelRef) -> AbstractAsyncContextManager[Session]:
        """Leases a version; raises ModelNotFound, ModelUnavailable, Draining."""
        raise NotImplementedError

    def list_models(self) -> tuple[ModelStatus, ...]:
        """Every model of the repository, by name."""
        raise NotImplementedError

    def get_model(self, name: str) -> ModelStatus:
        """One model by name, `models/` name, hub id or alias; raises ModelNotFound."""
        raise NotImplementedError

    def is_draining(self) -> bool:
        """Whether the server is about to stop."""
        raise NotImplementedError

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Calls `listener` on the event loop whenever a model's status changes."""
        raise NotImplementedError
