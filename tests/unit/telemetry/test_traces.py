from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from darkroom_server.domain.jobs import (
    JobCompleted,
    JobTimings,
    StageSpan,
    WorkAccount,
    WorkStage,
)
from darkroom_server.telemetry import traces

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}
SECOND_NS = 1_000_000_000


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    provider, found = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(found))
    monkeypatch.setattr(traces, "_tracer", provider.get_tracer("test"))
    yield found
    provider.shutdown()


def completed(*shared_with: str) -> JobCompleted:
    """Given to a worker after 1 s of 6, begun 1 s later."""
    spans = (
        StageSpan(WorkStage.ENCODE, 1.0, 1.5),
        StageSpan(WorkStage.DENOISE, 1.5, 4.0),
        StageSpan(WorkStage.DECODE, 4.0, 4.5),
        StageSpan(WorkStage.COMPRESS, 4.5, 5.0),
    )
    return JobCompleted(
        image_count=1,
        timings=JobTimings(load_s=0.5, total_s=6.0),
        account=WorkAccount(spans=spans, shared_with=shared_with),
    )


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_call_has_a_span_for_each_stage_in_its_callers_trace(
    exporter: InMemorySpanExporter,
) -> None:
    call = traces.begin_span("call", GIVEN)
    assert traces.trace_job(call, "a")
    traces.trace_stages(call, completed(), 10 * SECOND_NS)
    traces.end_span(call, attributes={"model": "tiny"})
    spans = by_name(exporter)
    times = {
        name: (span.start_time / SECOND_NS, span.end_time / SECOND_NS)
        for name, span in spans.items()
        if name != "call" and span.start_time and span.end_time
    }
    assert times == {
        "load": (4.0, 4.5),
        "queue": (4.5, 6.0),
        "encode": (6.0, 6.5),
        "denoise": (6.5, 9.0),
        "decode": (9.0, 9.5),
        "compress": (9.5, 10.0),
    }
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {TRACE_ID}
    assert f"{spans['call'].parent.span_id:016x}" == PARENT_ID
    assert {spans[name].parent.span_id for name in times} == {spans["call"].context.span_id}
    assert spans["call"].attributes == {"darkroom.model": "tiny"}
    assert traces.trace_id(call) == TRACE_ID
    assert traces.headers_of(call)["traceparent"].startswith(f"00-{TRACE_ID}-")


def test_two_that_shared_a_step_are_linked_both_ways(exporter: InMemorySpanExporter) -> None:
    calls = {job_id: traces.begin_span(job_id, {}) for job_id in ("a", "b")}
    for job_id, call in calls.items():
        traces.trace_job(call, job_id)
    # One ends before the other.
    traces.trace_stages(calls["a"], completed("b", "unknown"), 10 * SECOND_NS)
    traces.end_span(calls["a"])
    traces.trace_stages(calls["b"], completed("a"), 12 * SECOND_NS)
    denoised = [span for span in exporter.get_finished_spans() if span.name == "denoise"]
    linked = [[link.context.span_id for link in span.links] for span in denoised]
    assert linked == [[calls[other].get_span_context().span_id] for other in ("b", "a")]
    others = (span for span in exporter.get_finished_spans() if span.name != "denoise")
    assert not [link for span in others for link in span.links]


def test_a_failed_call_says_how(exporter: InMemorySpanExporter) -> None:
    traces.end_span(traces.begin_span("call", {}), "UNAVAILABLE")
    (span,) = exporter.get_finished_spans()
    assert (span.status.is_ok, span.status.description) == (False, "UNAVAILABLE")


def test_no_more_jobs_are_known_than_there_is_room_for(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    del exporter
    monkeypatch.setattr(traces, "MAX_KNOWN_JOBS", 3)
    call = traces.begin_span("call", {})
    for number in range(10):
        traces.trace_job(call, f"job {number}")
    assert list(traces._jobs) == ["job 7", "job 8", "job 9"]


def test_without_a_provider_nothing_is_recorded_and_the_callers_trace_goes_on() -> None:
    call = traces.begin_span("call", GIVEN)
    assert not traces.trace_job(call, "a")
    assert traces.trace_id(call) == TRACE_ID
    assert traces.headers_of(call) == GIVEN
    assert traces.headers_of(traces.begin_span("call", {})) == {}


def test_probes_are_not_told_of(exporter: InMemorySpanExporter) -> None:
    traces.end_span(traces.begin_span("call", GIVEN, is_exported=False))
    assert not exporter.get_finished_spans()
