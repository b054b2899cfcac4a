"""Traces: a span for each call and each stage of it, and links between those that shared a step.

W3C trace context comes in and goes out. Without a provider, which `trace_export.py` installs, spans
are not recorded, and a caller's own trace is still passed on. Bound to the event loop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanContext, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from darkroom_server.domain.jobs import JobCompleted, StageSpan, WorkStage

#: In metadata and in HTTP's headers, of requests and of answers.
TRACE_PARENT_KEY, TRACE_STATE_KEY = "traceparent", "tracestate"
#: Jobs whose spans can be linked to: those that run, and some that ended recently.
MAX_KNOWN_JOBS = 4096

_NS = 1_000_000_000
_propagator = TraceContextTextMapPropagator()
_tracer = trace.get_tracer("darkroom")
_jobs: OrderedDict[str, SpanContext] = OrderedDict()


def begin_span(name: str, given: Mapping[str, str], *, is_exported: bool = True) -> Span:
    """The span of a call, in the trace that its headers name or in a new one.

    Probes have no span: they come every few seconds.
    """
    if not is_exported:
        return INVALID_SPAN
    return _tracer.start_span(name, _propagator.extract(given), kind=SpanKind.SERVER)


def end_span(span: Span, error: str = "", attributes: Mapping[str, str] | None = None) -> None:
    """Ends the span of a call; `error`: the status that it failed with."""
    span.set_attributes({f"darkroom.{name}": value for name, value in (attributes or {}).items()})
    if error:
        span.set_status(StatusCode.ERROR, error)
    span.end()


def trace_id(span: Span) -> str:
    """As logs and headers have it; empty without a trace."""
    context = span.get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""


def headers_of(span: Span) -> dict[str, str]:
    """What passes the trace on; empty without one."""
    headers: dict[str, str] = {}
    _propagator.inject(headers, trace.set_span_in_context(span))
    return headers


def trace_job(span: Span, job_id: str) -> bool:
    """Whether the job of a call is traced; others can then be linked to it."""
    if span.is_recording():
        _jobs[job_id] = span.get_span_context()
        while len(_jobs) > MAX_KNOWN_JOBS:
            _jobs.popitem(last=False)
    return span.is_recording()


def trace_stages(span: Span, completed: JobCompleted, ended_ns: int) -> None:
    """Adds the stages of a job, whose last image came at that time, to the span of its call.

    Stages of several images overlap: a span is from the first begin to the last end.
    """
    if not span.is_recording():
        return
    timings, stages = completed.timings, completed.account.spans
    admitted_ns = ended_ns - round(timings.total_s * _NS)
    given_ns = ended_ns - round(max((one.end_s for one in stages), default=0.0) * _NS)
    begun_ns = given_ns + round(min((one.begin_s for one in stages), default=0.0) * _NS)
    loaded_ns = admitted_ns + round(timings.load_s * _NS)
    if timings.load_s:
        _add(span, "load", admitted_ns, loaded_ns)
    _add(span, "queue", loaded_ns, max(loaded_ns, begun_ns))
    for one in stages:
        begin_ns = given_ns + round(one.begin_s * _NS)
        _add(
            span,
            one.stage.value,
            begin_ns,
            given_ns + round(one.end_s * _NS),
            _links(completed, one),
        )


def _links(completed: JobCompleted, stage: StageSpan) -> list[Link]:
    """Of denoising, to the calls whose images took steps with it."""
    if stage.stage is not WorkStage.DENOISE:
        return []
    return [
        Link(_jobs[job_id], {"darkroom.job_id": job_id})
        for job_id in completed.account.shared_with
        if job_id in _jobs
    ]


def _add(
    span: Span, name: str, begin_ns: int, end_ns: int, links: list[Link] | None = None
) -> None:
    context = trace.set_span_in_context(span)
    _tracer.start_span(name, context, links=links, start_time=begin_ns).end(end_ns)
