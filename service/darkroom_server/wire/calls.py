"""What is learnt of a call while it is answered, for the edge's log line and its metrics."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

import structlog


@dataclass(slots=True)
class CallNotes:
    """One call. Mutable: it is filled in while the call is answered.

    `model` is one of the repository, never what a caller made up, which would make a series of a
    metric each. `job_id` is what the workers' log has of it. `rpc` is the method and `code` the
    status of a remote procedure call over HTTP, where a stream's own status is 200.
    """

    request_id: str
    model: str = ""
    job_id: str = ""
    rpc: str = ""
    code: str = ""

    def told(self) -> dict[str, str]:
        """What the access line says of it besides."""
        values = {"model": self.model, "job_id": self.job_id, "code": self.code}
        return {name: value for name, value in values.items() if value}


_current: ContextVar[CallNotes | None] = ContextVar("call", default=None)


def begin_call(notes: CallNotes) -> None:
    """Makes it the call that the task answers, and its id part of every line logged by it."""
    _current.set(notes)
    structlog.contextvars.bind_contextvars(request_id=notes.request_id)


def current_call() -> CallNotes:
    """The notes of the call that the task answers; new ones where no edge has begun it."""
    return _current.get() or CallNotes("")
