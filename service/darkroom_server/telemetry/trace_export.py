"""Where traces are sent: a collector that speaks OTLP over gRPC. Needs the extra `otlp`."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry import trace

SERVICE_NAME = "darkroom"


class TracesUnavailable(Exception):
    """Traces cannot be sent; the message says what is missing."""


def export_traces(endpoint: str, *, share: float) -> Callable[[], None]:
    """Sends traces from now on; what is returned sends the last and stops.

    `share`: what part of the traces that begin here is recorded; of those that callers begin,
    the ones that their callers record. Raises TracesUnavailable.
    """
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ModuleNotFoundError as error:
        raise TracesUnavailable(
            f"otlp_endpoint needs {error.name}: install darkroom-server[otlp]"
        ) from None
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(share)),
        resource=Resource.create({"service.name": SERVICE_NAME}),
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    trace.set_tracer_provider(provider)
    return provider.shutdown
