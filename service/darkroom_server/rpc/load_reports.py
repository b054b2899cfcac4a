"""Load reports for balancers, by ORCA: with each call, and out of band. Loop-bound."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
from grpc import aio

from darkroom.xds.data.orca.v3.orca_load_report_pb2 import OrcaLoadReport
from darkroom.xds.service.orca.v3 import orca_pb2, orca_pb2_grpc
from darkroom_server.engine.engine import Engine
from darkroom_server.rpc.call_rate import CallRate
from darkroom_server.rpc.renamed import Renamed
from darkroom_server.scale_out.load_table import load_of, pace_of

#: The name on the wire, which is another than the generated code's.
LOAD_SERVICE: Final = "xds.service.orca.v3.OpenRcaService"
#: Where a call's report is among its trailers.
LOAD_KEY: Final = "endpoint-load-metrics-bin"
#: Reports beside calls come no faster, and the queue is read no more often.
MIN_INTERVAL_S = 1.0
#: Jobs that are read to estimate what waits; of more, these are a sample.
_MAX_LOOKED_AT = 512
#: What a balancer should hold against the server, and not against the caller.
_FAILURES = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DATA_LOSS,
    }
)

_Context = aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What is to be done, by all workers together."""

    device_s: float = 0.0
    request_count: int = 0
    worker_count: int = 0


def waiting(engine: Engine) -> Waiting:
    """Device seconds that are left of the requests that are here."""
    request_count, worker_count = engine.counts()
    looked_at = list(itertools.islice(engine.active_jobs(), _MAX_LOOKED_AT))
    device_s = sum(
        pace_of(active.job.spec, stats.costs).work_s(
            load_of(active.job.spec, active.stream.progress[0])
        )
        for active, stats in looked_at
    )
    if looked_at:
        device_s *= request_count / len(looked_at)
    return Waiting(device_s=device_s, request_count=request_count, worker_count=worker_count)


class LoadReports:
    """Counts calls, and says how the server is doing."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._calls, self._failed = CallRate(), CallRate()
        self._waiting, self._looked_s = Waiting(), float("-inf")

    def ended(self, code: grpc.StatusCode, device_s: float) -> bytes:
        """Counts a call; the report that goes with it: the load, and what the call took."""
        now_s = time.monotonic()
        self._calls.count(now_s)
        if code in _FAILURES:
            self._failed.count(now_s)
        report = self.report(now_s)
        if device_s:
            report.request_cost["device_seconds"] = device_s
        return report.SerializeToString()

    def report(self, now_s: float) -> OrcaLoadReport:
        """The load now."""
        if now_s - self._looked_s >= MIN_INTERVAL_S:
            self._waiting, self._looked_s = waiting(self._engine), now_s
        work = self._waiting
        report = OrcaLoadReport(
            application_utilization=work.device_s / max(1, work.worker_count),
            rps_fractional=self._calls.per_s(now_s),
            eps=self._failed.per_s(now_s),
        )
        report.named_metrics["waiting_device_seconds"] = work.device_s
        report.named_metrics["requests"] = work.request_count
        return report


class LoadService(orca_pb2_grpc.OpenRcaServiceServicer):
    """Reports beside calls, for balancers that keep a stream open."""

    def __init__(self, reports: LoadReports) -> None:
        self._reports = reports
        self._closed = asyncio.Event()

    def close(self) -> None:
        """Ends every stream, which would otherwise keep a stopping server waiting."""
        self._closed.set()

    async def StreamCoreMetrics(
        self, request: orca_pb2.OrcaLoadReportRequest, _context: _Context
    ) -> AsyncIterator[OrcaLoadReport]:
        """A report at once, and then one each interval."""
        interval = request.report_interval
        interval_s = max(MIN_INTERVAL_S, interval.seconds + interval.nanos / 1e9)
        while not self._closed.is_set():
            yield self._reports.report(time.monotonic())
            await _wait(self._closed, at_most_s=interval_s)


async def _wait(event: asyncio.Event, *, at_most_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(at_most_s):
            await event.wait()


def add_load_reports(service: LoadService, server: aio.Server) -> None:
    """Serves the reports under the name that balancers use."""
    renamed: Any = Renamed(server, LOAD_SERVICE)
    orca_pb2_grpc.add_OpenRcaServiceServicer_to_server(service, renamed)
