"""What a server tells of its work: metrics, traces at a collector, the lines of its log."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from bench.serving import Server, serving
from darkroom.v1.image_service_pb2 import GenerateRequest, GenerateResponse
from darkroom.v1.image_service_pb2_grpc import ImageServiceStub

WAIT_S = 120.0
PROMPT = "a secret garden"
#: So long that it runs until it is cancelled.
LONG_STEP_COUNT = 499
CONFIG = "backend: BACKEND_FAKE fake { step_s: 0.2 } limits { max_step_count: 499 }"


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that a server sends."""

    spans: list[Span] = field(default_factory=list)
    grown: threading.Condition = field(default_factory=threading.Condition)

    def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        del context
        with self.grown:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    self.spans += scope.spans
            self.grown.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def of(self, trace_id: str, *names: str) -> dict[str, Span]:
        """Spans of a trace by name, once these are there."""

        def found() -> dict[str, Span]:
            return {one.name: one for one in self.spans if one.trace_id.hex() == trace_id}

        with self.grown:
            assert self.grown.wait_for(lambda: set(names) <= set(found()), WAIT_S), found()
            return found()


@dataclass
class Told:
    """A server, and where its spans go."""

    server: Server
    channel: grpc.Channel
    collector: Collector

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.server.until('listening')['http_port']}"

    def generate(
        self, trace_id: str = "", *, step_count: int = 3, timeout_s: float | None = None
    ) -> grpc.UnaryStreamMultiCallable:
        request = GenerateRequest(model="tiny", prompt=PROMPT, step_count=step_count, seed=7)
        request.preview.interval_step_count = 1
        metadata = [("traceparent", f"00-{trace_id}-b7ad6b7169203331-01")] if trace_id else []
        return ImageServiceStub(self.channel).Generate(
            request, metadata=metadata, timeout=timeout_s
        )

    def scrape(self) -> dict[str, float]:
        """Sums over labels, by the name of the sample."""
        text = httpx.get(f"{self.http}/metrics").raise_for_status().text
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found

    def until(self, name: str, holds: Callable[[float], bool] = lambda value: value > 0) -> None:
        until_s = time.monotonic() + WAIT_S
        while not holds(value := self.scrape().get(f"darkroom_{name}", 0.0)):
            assert time.monotonic() < until_s, f"{name} stays {value}"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "tiny" / "1").mkdir(parents=True)
    (folder / "tiny" / "config.pbtxt").write_text(CONFIG)
    collector = Collector()
    receiver = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, receiver)
    port = receiver.add_insecure_port("127.0.0.1:0")
    receiver.start()
    try:
        with (
            serving(folder, "--otlp-endpoint", f"http://127.0.0.1:{port}") as server,
            grpc.insecure_channel(server.address) as channel,
        ):
            server.until("model", state="ready")
            yield Told(server, channel, collector)
    finally:
        receiver.stop(None)


def step_taken(call: Iterator[GenerateResponse]) -> None:
    """Returns once the request has a step behind it."""
    for response in call:
        if response.event.progress.completed_step_count:
            return
    raise AssertionError("it ended before")


def test_one_request_is_a_span_with_one_for_each_stage(told: Told) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    call = told.generate(trace_id)
    list(call)
    sent = dict(call.initial_metadata())["traceparent"]
    assert sent.split("-")[1] == trace_id
    name = "darkroom.v1.ImageService/Generate"
    spans = told.collector.of(trace_id, name, "queue", "encode", "denoise", "decode", "compress")
    parent = spans.pop(name)
    assert parent.span_id.hex() == sent.split("-")[2]
    assert {one.parent_span_id for one in spans.values()} == {parent.span_id}
    for one in spans.values():
        assert one.start_time_unix_nano <= one.end_time_unix_nano
    attributes = {one.key: one.value.string_value for one in parent.attributes}
    assert (attributes["darkroom.model"], attributes["darkroom.seed"]) == ("tiny", "7")
    assert PROMPT not in str(told.collector.spans)


def test_a_request_that_shared_steps_is_linked_to_the_other(told: Told) -> None:
    long_id, short_id = "1" * 32, "2" * 32
    long = told.generate(long_id, step_count=LONG_STEP_COUNT)
    step_taken(long)
    list(told.generate(short_id))
    long.cancel()
    (other,) = told.collector.of(long_id, "darkroom.v1.ImageService/Generate").values()
    (link,) = told.collector.of(short_id, "denoise")["denoise"].links
    assert (link.trace_id.hex(), link.span_id) == (long_id, other.span_id)


def test_http_and_connect_pass_traces_on(told: Told) -> None:
    headers = {"traceparent": f"00-{'3' * 32}-b7ad6b7169203331-01"}
    paths = {"/v1/images/generations": {"model": "tiny", "prompt": PROMPT}}
    paths["/darkroom.v1.ModelService/ListModels"] = {}
    for path, body in paths.items():
        answer = httpx.post(f"{told.http}{path}", json=body, headers=headers, timeout=WAIT_S)
        assert answer.is_success, answer.text
        assert answer.headers["traceparent"].split("-")[1] == "3" * 32
        told.collector.of("3" * 32, f"POST {path}")


def test_the_log_names_a_request_and_not_its_prompt(told: Told) -> None:
    trace_id = "4" * 32
    call = told.generate(trace_id)
    list(call)
    line = told.server.until("call", trace_id=trace_id)
    assert line["request_id"] == dict(call.initial_metadata())["x-request-id"]
    known = {name: line[name] for name in ("model", "version", "seed", "code")}
    assert known == {"model": "tiny", "version": "1", "seed": "7", "code": "OK"}
    assert PROMPT not in str(told.server.log)


def test_what_a_library_says_is_a_line_like_all_others(told: Told) -> None:
    port = told.server.until("listening")["http_port"]
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        connection.sendall(b"\x16\x03 no HTTP\r\n\r\n")
        told.server.until("a library's message", library="uvicorn.error")
    assert [entry for entry in told.server.log if "level" not in entry] == []


def test_a_request_moves_the_metrics_of_its_stages(told: Told) -> None:
    list(told.generate())
    for name in (
        *("admitted_total", "stage_seconds_count", "first_preview_seconds_count"),
        *("megapixels_total", "device_seconds_total", "step_seconds_count", "model_memory_bytes"),
    ):
        told.until(name, lambda value, name=name: value > 0 or name == "model_memory_bytes")
    # Its first steps told what steps cost: of the next the end is estimated.
    list(told.generate())
    told.until("estimate_error_ratio_count")
    told.until("model_state", lambda value: value == 1)


def test_a_refused_request_is_counted_by_reason(told: Told) -> None:
    with pytest.raises(grpc.RpcError):
        list(told.generate(step_count=LONG_STEP_COUNT + 1))
    told.until("refused_total")
    told.until("requests_total")
    assert 'reason="INVALID_PARAMETER"' in httpx.get(f"{told.http}/metrics").text


def test_what_waits_is_told_until_work_begins_and_what_was_cancelled_is_timed(told: Told) -> None:
    worker = told.server.worker_pid()
    os.kill(worker, signal.SIGSTOP)
    try:
        call = told.generate(step_count=LONG_STEP_COUNT)
        told.until("queued_requests", lambda value: value == 1)
        told.until("oldest_queued_seconds")
    finally:
        os.kill(worker, signal.SIGCONT)
    step_taken(call)
    told.until("queued_requests", lambda value: value == 0)
    before = told.scrape()["darkroom_cancel_seconds_count"]
    call.cancel()
    told.until("cancel_seconds_count", lambda value: value > before)


def test_a_deadline_that_passes_is_a_miss(told: Told) -> None:
    call = told.generate(step_count=10, timeout_s=6.0)
    step_taken(call)
    worker = told.server.worker_pid()
    os.kill(worker, signal.SIGSTOP)
    try:
        with pytest.raises(grpc.RpcError):
            list(call)
    finally:
        os.kill(worker, signal.SIGCONT)
    told.until("deadline_misses_total")
