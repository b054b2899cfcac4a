"""What was counted of the requests of each version since the server began, whatever their dialect.

In the terms of Triton's statistics, which its clients and dashboards read. Bound to one event loop.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeAlias

import structlog

from darkroom_server.domain.errors import (
    Cancelled,
    FieldError,
    GenerationFailed,
    InsufficientCredits,
    OutOfDeviceMemory,
    PermissionDenied,
    TryLater,
    WorkerLost,
)
from darkroom_server.domain.jobs import JobCompleted, JobTimings
from darkroom_server.telemetry.request_traces import RequestTraces

log = structlog.get_logger(__name__)

#: A model's name and a version's number.
Version: TypeAlias = "tuple[str, int]"


@dataclass(slots=True)
class Spent:
    """How often something was done, and how long it took altogether. Mutable."""

    count: int = 0
    total_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Counts it once."""
        self.count += 1
        self.total_s += seconds


@dataclass(slots=True)
class VersionStatistics:
    """What was counted of one version. Mutable.

    `image_count` images were made by successful requests. `executions` counts each of them by the
    part that it had in the fullest batch of its request: images that share all their steps are one.
    """

    success: Spent = field(default_factory=Spent)
    #: By Triton's word for what happened.
    failures: dict[str, Spent] = field(default_factory=dict)
    queue: Spent = field(default_factory=Spent)
    encode: Spent = field(default_factory=Spent)
    denoise: Spent = field(default_factory=Spent)
    decode: Spent = field(default_factory=Spent)
    image_count: int = 0
    executions: float = 0.0
    last_began_s: float = 0.0

    @property
    def execution_count(self) -> int:
        """As a whole number."""
        # Thirds do not add up to a whole exactly.
        return math.ceil(round(self.executions, 6))

    @property
    def failed(self) -> Spent:
        """All failures."""
        found = self.failures.values()
        return Spent(sum(one.count for one in found), sum(one.total_s for one in found))


class RunningRequest:
    """A request that is being counted; leaving the context ends it.

    It was a success once its job is completed. An end without that and without an error is neither
    a success nor a failure: the request was only checked.
    """

    def __init__(self, version: Version, own: VersionStatistics, traces: RequestTraces) -> None:
        self._version, self._own, self._traces = version, own, traces
        self._began_s, self._date_s = time.monotonic(), time.time()
        self.completed: JobCompleted | None = None

    def __enter__(self) -> Self:
        self._own.last_began_s = self._date_s
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        took_s = time.monotonic() - self._began_s
        if self.completed is not None:
            _add(self._own, self.completed, took_s)
            self._trace(self.completed, took_s)
        elif kind is not None:
            self._own.failures.setdefault(_reason(kind), Spent()).add(took_s)

    def _trace(self, completed: JobCompleted, took_s: float) -> None:
        (model, version), timings = self._version, completed.timings
        if not self._traces.wants(model):
            return
        log.info(
            "trace",
            model=f"{model}/{version}",
            began_ns=round(self._date_s * 1e9),
            queue_ms=_ms(_queue_s(timings)),
            encode_ms=_ms(timings.encode_s),
            denoise_ms=_ms(timings.denoise_s),
            decode_ms=_ms(_decode_s(timings)),
            total_ms=_ms(took_s),
            image_count=completed.image_count,
        )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _reason(kind: type[BaseException]) -> str:
    """Triton's word for an end of that kind."""
    if not issubclass(kind, Exception) or issubclass(kind, Cancelled):
        return "CANCELED"
    if issubclass(kind, TryLater | FieldError | PermissionDenied | InsufficientCredits):
        return "REJECTED"
    if issubclass(kind, OutOfDeviceMemory | GenerationFailed | WorkerLost):
        return "BACKEND"
    return "OTHER"


class InferenceStatistics:
    """The counts of all versions."""

    def __init__(self) -> None:
        self._versions: dict[Version, VersionStatistics] = {}
        #: Which of the requests write a line when they have ended.
        self.traces = RequestTraces()

    def request(self, model: str, version: int) -> RunningRequest:
        """Counts the request that runs in its context."""
        own = self._versions.setdefault((model, version), VersionStatistics())
        return RunningRequest((model, version), own, self.traces)

    def of(self, model: str, version: int) -> VersionStatistics:
        """What was counted of a version; nothing of one that was never asked."""
        return self._versions.get((model, version), VersionStatistics())

    def all(self) -> dict[Version, VersionStatistics]:
        """Of every version that was asked, whether it is still there or not."""
        return dict(self._versions)


def _add(own: VersionStatistics, completed: JobCompleted, took_s: float) -> None:
    timings, batch = completed.timings, completed.batch
    own.success.add(took_s)
    own.queue.add(_queue_s(timings))
    own.encode.add(timings.encode_s)
    own.denoise.add(timings.denoise_s)
    own.decode.add(_decode_s(timings))
    own.image_count += completed.image_count
    # The part of its fullest batch that was its own.
    own.executions += batch.request_image_count / max(1, batch.batch_image_count) if batch else 1.0


def _queue_s(timings: JobTimings) -> float:
    """Triton's queue time: also for the model to load."""
    return timings.queue_s + timings.load_s


def _decode_s(timings: JobTimings) -> float:
    """Triton's output time: decoding and compressing."""
    return timings.decode_s + timings.compress_s
