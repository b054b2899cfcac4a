"""How a call is known and how it ends: its id, its log line, its count, its status.

One for all edges: gRPC, Connect and gRPC-Web, HTTP.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from google.rpc import status_pb2
from opentelemetry.trace import INVALID_SPAN, Span

from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.jobs import ImageSpec
from darkroom_server.telemetry.logs import logs_prompts
from darkroom_server.telemetry.metric_list import ADMITTED, DEVICE_SECONDS, REFUSED, REQUESTS
from darkroom_server.telemetry.metrics import Metrics
from darkroom_server.telemetry.traces import end_span, trace_id
from darkroom_server.wire.status import (
    internal_status,
    kind_of,
    retry_pushback_ms,
    status_of,
    unimplemented_status,
)

#: In metadata and in HTTP's headers.
REQUEST_ID_KEY = "x-request-id"
#: Of a request with more images the first.
MAX_LOGGED_SEEDS = 4
_SANE_ID = re.compile(r"[!-~]{1,128}")
_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(slots=True)
class CallNotes:
    """What is learnt of one call. Mutable: it is filled in while the call is answered.

    `model` is one of the repository, never what a caller made up, which would make a series of a
    metric each. `job_id` is what the workers' log has of it. `rpc` is the method of a remote
    procedure call and `code` its status, also over HTTP, where a stream's own status is 200.
    `seeds` are a few of those that were used; `prompt` is there where prompts are logged.
    """

    request_id: str
    model: str = ""
    job_id: str = ""
    rpc: str = ""
    code: str = ""
    version: str = ""
    seeds: str = ""
    prompt: str = ""
    span: Span = INVALID_SPAN
    metrics: Metrics | None = None
    #: What it has taken of devices.
    device_s: float = 0.0

    def noted(self) -> dict[str, str]:
        """What the access line says of it besides."""
        values = {
            "model": self.model,
            "version": self.version,
            "seed": self.seeds,
            "job_id": self.job_id,
            "code": self.code,
            "prompt": self.prompt,
        }
        return {name: value for name, value in values.items() if value}

    def count(self, metrics: Metrics, code: grpc.StatusCode) -> None:
        """Notes and counts how a remote procedure call has ended."""
        self.code = code.name
        metrics.count(REQUESTS, (self.rpc, self.model, code.name))

    def runs(self, model: str, version: int, job_id: str) -> None:
        """Notes what runs the request."""
        self.model, self.version, self.job_id = model, str(version), job_id

    def admitted(self) -> None:
        """Counts the request as accepted."""
        if self.metrics is not None:
            self.metrics.count(ADMITTED, (self.model, self.version))

    def refused(self, error: DarkroomError) -> None:
        """Counts the request as refused."""
        if self.metrics is not None:
            self.metrics.count(REFUSED, (self.model, kind_of(error).reason))

    @contextmanager
    def admission(self, *, counts: bool) -> Iterator[Callable[[], None]]:
        """Counts a request as accepted when the function it gives is called, or as refused if the
        block raises before. With `counts` false, it is only checked, and not counted if valid.
        """
        is_decided = False

        def note_admitted() -> None:
            nonlocal is_decided
            is_decided = True
            if counts:
                self.admitted()

        try:
            yield note_admitted
        except DarkroomError as error:
            if not is_decided:
                self.refused(error)
            raise

    def used_device(self, key_id: str, device_s: float) -> None:
        """Counts what the request took of devices, for its key."""
        self.device_s += device_s
        if self.metrics is not None:
            self.metrics.count(DEVICE_SECONDS, (key_id, self.model), device_s)

    def ended(self, status: str = "") -> None:
        """Ends the span; `status`: what an HTTP call failed with that is no RPC."""
        failed = status or ("" if self.code in ("", "OK") else self.code)
        noted = {name: value for name, value in self.noted().items() if name != "prompt"}
        end_span(self.span, failed, {"request_id": self.request_id, **noted})

    def log(self, log: Any, event: str, duration_s: float, *, quiet: bool, **fields: Any) -> None:
        """Writes the access line. `quiet`: of a probe, whose lines would bury the others."""
        write = log.debug if quiet else log.info
        duration_ms = round(duration_s * 1000, 1)
        noted = self.noted()
        write(event, **fields, duration_ms=duration_ms, request_id=self.request_id, **noted)


_current: ContextVar[CallNotes | None] = ContextVar("call", default=None)


def begin_call(notes: CallNotes) -> None:
    """Makes it the call that the task answers, and its ids part of every line logged by it."""
    _current.set(notes)
    ids = {"request_id": notes.request_id, "trace_id": trace_id(notes.span)}
    structlog.contextvars.bind_contextvars(**{name: value for name, value in ids.items() if value})


def current_call() -> CallNotes:
    """The notes of the call that the task answers; new ones where no edge has begun it."""
    return _current.get() or CallNotes("")


def note_request(notes: CallNotes, spec: ImageSpec) -> None:
    """Notes the request's parameters that logs may contain."""
    seeds = [str(seed) for seed in spec.seeds[:MAX_LOGGED_SEEDS]]
    notes.seeds = ",".join(seeds)
    if logs_prompts():
        notes.prompt = spec.prompt


def request_id(*given: str | None) -> str:
    """The first of the caller's own ids that is sane, else a new one."""
    sane = (value for value in given if value and _SANE_ID.fullmatch(value))
    return next(sane, None) or uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Failure:
    """How a remote procedure call ends that raised something."""

    status: status_pb2.Status
    pushback_ms: int | None = None

    @property
    def code(self) -> grpc.StatusCode:
        """The status' code."""
        return _CODES[self.status.code]


def failure_of(error: Exception, call_id: str, log: Any) -> Failure:
    """The status of an RPC that raised the error; unexpected errors are only logged.

    `call_id` is the call's id. Called where the error is handled, as `log_bug` is.
    """
    if isinstance(error, DarkroomError):
        return Failure(status_of(error, call_id), retry_pushback_ms(error))
    if isinstance(error, NotImplementedError):
        return Failure(unimplemented_status())
    log_bug(call_id, log)
    return Failure(internal_status(call_id))


def log_bug(call_id: str, log: Any) -> None:
    """Writes down the error that is being handled, which nobody foresaw, and where it came from."""
    log.exception("unhandled error", request_id=call_id)


def why_gone(remaining_s: float | None) -> grpc.StatusCode:
    """How a call ends whose caller has left. `remaining_s`: until its deadline, if it had one."""
    if remaining_s is not None and remaining_s <= 0:
        return grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.CANCELLED
