"""Load reports by ORCA: in the trailers of calls, and beside calls."""

from __future__ import annotations

import asyncio
import struct
import time
from dataclasses import replace

import grpc
import pytest
from google.protobuf.message import Message
from grpc import aio
from grpc_health.v1 import health_pb2

from bench.raw_http2 import GENERATE, HEADERS, SETTINGS, RawConnection, frame, message
from darkroom.v1.image_service_pb2 import GenerateRequest
from darkroom.v1.model_service_pb2 import GetModelRequest, ListModelsRequest
from darkroom.xds.data.orca.v3.orca_load_report_pb2 import OrcaLoadReport
from darkroom.xds.service.orca.v3.orca_pb2 import OrcaLoadReportRequest
from darkroom_server.access.gate import Need
from darkroom_server.domain.errors import QueueFull
from darkroom_server.domain.jobs import WorkAccount
from darkroom_server.engine.active_job import ActiveJob
from darkroom_server.engine.stream import JobStream
from darkroom_server.rpc.call_rate import WINDOW_S, CallRate
from darkroom_server.rpc.load_reports import LOAD_KEY, LoadReports
from darkroom_server.wire.permissions import need_of_rpc
from darkroom_server.worker.messages import SizeCost, WorkerStats
from tests.integration.rpc.fake_engine import COMPLETED, FakeEngine, image
from tests.unit.specs import job

METHOD = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics"
WAIT_S = 120.0
#: gRPC's own setting: values that are bytes may come as they are.
TRUE_BINARY = struct.pack(">HI", 0xFE03, 1)
#: Images of 16 × 8 pixels: a tenth of a second a step for one row, and no room for more.
STATS = WorkerStats(
    costs=(SizeCost(pixel_count=128, room=1, step_s_by_rows=((1, 0.1),), image_s=0.2),)
)


def active(job_id: str, **changes: object) -> tuple[ActiveJob, WorkerStats]:
    made = ActiveJob(job(job_id, step_count=10, **changes), JobStream(), admitted_s=0.0)
    return made, STATS


def report_after(address: str, method: str, request: Message) -> OrcaLoadReport:
    """What a call's trailers have. gRPC for Python keeps it to its own balancers: read by hand."""
    connection = RawConnection(address)
    with connection.socket:
        connection.socket.sendall(frame(SETTINGS, 0, 0, TRUE_BINARY))
        stream = connection.open(method)
        connection.send(stream, message(request.SerializeToString()))
        connection.end(stream)
        until_s = time.monotonic() + WAIT_S
        while not connection.has_ended(stream):
            assert connection.read(1.0)
            assert time.monotonic() < until_s
        heads = b"".join(
            one.content for one in connection.frames if one.kind == HEADERS and one.stream == stream
        )
    _, key, rest = heads.partition(LOAD_KEY.encode())
    if not key:
        raise LookupError(LOAD_KEY)
    # A length, a zero that says that it is as it is, and the value.
    size, binary = rest[0], rest[1]
    assert (size < 127, binary) == (True, 0)
    return OrcaLoadReport.FromString(rest[2 : 1 + size])


async def asked(server, method: str, request: Message) -> OrcaLoadReport:
    return await asyncio.to_thread(report_after, f"127.0.0.1:{server.port}", method, request)


def beside(channel: aio.Channel, request: OrcaLoadReportRequest):
    call = channel.unary_stream(
        METHOD,
        request_serializer=OrcaLoadReportRequest.SerializeToString,
        response_deserializer=OrcaLoadReport.FromString,
    )
    return call(request, timeout=WAIT_S)


async def test_a_call_tells_what_waits_and_what_it_took(engine, server):
    engine.active = [active("a"), active("b")]
    engine.script = [image(), replace(COMPLETED, account=WorkAccount(device_s=1.25))]
    report = await asked(server, GENERATE, GenerateRequest(prompt="x"))
    # Ten steps of 0.1 s and 0.2 s besides, each.
    assert report.application_utilization == pytest.approx(2.4)
    assert report.named_metrics["waiting_device_seconds"] == pytest.approx(2.4)
    assert report.named_metrics["requests"] == 2
    assert report.request_cost == {"device_seconds": 1.25}
    assert report.rps_fractional > 0
    assert report.eps == 0


async def test_calls_that_take_nothing_and_calls_that_fail_tell_the_load(engine, server):
    models = "/darkroom.v1.ModelService/"
    assert not (await asked(server, models + "ListModels", ListModelsRequest())).request_cost
    # That is the caller's fault.
    wrong = await asked(server, models + "GetModel", GetModelRequest(name="models/nobody"))
    assert wrong.eps == 0 < wrong.rps_fractional
    engine.submit_errors = [QueueFull("full", retry_after_s=1.0)]
    full = await asked(server, GENERATE, GenerateRequest(prompt="x"))
    assert 0 < full.eps < full.rps_fractional


async def test_probes_tell_nothing(server):
    with pytest.raises(LookupError):
        await asked(server, "/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest())


async def test_reports_beside_calls_come_at_once_and_again(engine, channel):
    request = OrcaLoadReportRequest()
    request.report_interval.FromMilliseconds(1)
    call = beside(channel, request)
    first = await call.read()
    assert first.application_utilization == 0
    engine.active = [active("a", seeds=(1, 2))]
    while (await call.read()).named_metrics["requests"] != 1:
        pass
    last = await call.read()
    assert last.application_utilization == pytest.approx(2.4)
    assert not last.request_cost
    call.cancel()


async def test_a_server_that_stops_ends_the_reports(server, channel):
    request = OrcaLoadReportRequest()
    request.report_interval.FromSeconds(3600)
    call = beside(channel, request)
    assert await call.read()
    stopping = asyncio.create_task(server.stop(grace_s=WAIT_S))
    assert await call.read() is aio.EOF
    assert await call.code() is grpc.StatusCode.OK
    await stopping


def test_of_many_jobs_some_stand_for_all() -> None:
    looked_at = 0
    engine = FakeEngine()

    def jobs():
        nonlocal looked_at
        for number in range(10_000):
            looked_at += 1
            yield active(str(number))

    engine.active_jobs = jobs
    engine.counts = lambda: (10_000, 4)
    reports = LoadReports(engine)
    assert reports.report(now_s=1.0).application_utilization == pytest.approx(1.2 * 10_000 / 4)
    assert looked_at <= 1000
    for _ in range(1000):
        reports.report(now_s=1.5)
    assert looked_at <= 1000


def test_balancers_need_no_key() -> None:
    assert need_of_rpc(METHOD, reflection_needs_key=True) is Need.NOTHING


def test_a_rate_counts_the_last_while() -> None:
    rate = CallRate()
    for at in range(20):
        rate.count(1000.0 + at / 2)
    assert rate.per_s(1000.0 + WINDOW_S - 0.5) == pytest.approx(2.0)
    # Half of the window before counts still.
    assert rate.per_s(1000.0 + 1.5 * WINDOW_S) == pytest.approx(1.0)
    assert rate.per_s(1000.0 + 2 * WINDOW_S) == 0
    assert rate.per_s(5000.0) == 0
