"""Every metric and its unit in one list, and the registry that holds their values.

Values live in the server's process; what workers count comes to it as reports.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector


class MetricKind(enum.Enum):
    """How a metric's value moves; the value is Prometheus' name for it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric. `buckets`: upper bounds, of a histogram only."""

    name: str
    kind: MetricKind
    unit: str
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()


#: Labels of what the workers of a version do.
VERSION_LABELS = ("model", "version")

REQUESTS = Metric(
    name="darkroom_requests_total",
    kind=MetricKind.COUNTER,
    unit="calls",
    labels=("method", "model", "code"),
    meaning="RPCs that have ended, by their status: gRPC, gRPC-Web and Connect",
)
HTTP_REQUESTS = Metric(
    name="darkroom_http_requests_total",
    kind=MetricKind.COUNTER,
    unit="calls",
    labels=("method", "route", "model", "status"),
    meaning="HTTP calls that have ended; status 0: their callers left before there was one",
)
HTTP_SECONDS = Metric(
    name="darkroom_http_request_seconds",
    kind=MetricKind.HISTOGRAM,
    unit="seconds",
    labels=("method", "route"),
    meaning="from the headers of an HTTP call to the end of its answer, the stream included",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
)
QUEUE = Metric(
    name="darkroom_queue_seconds",
    kind=MetricKind.HISTOGRAM,
    unit="seconds",
    labels=VERSION_LABELS,
    meaning="from admission until the work on a request first began",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
)
STEPS = Metric(
    name="darkroom_steps_total",
    kind=MetricKind.COUNTER,
    unit="steps",
    labels=VERSION_LABELS,
    meaning="denoising steps taken; one that requests share counts once",
)
STEP_ROWS = Metric(
    name="darkroom_step_rows",
    kind=MetricKind.HISTOGRAM,
    unit="rows",
    labels=VERSION_LABELS,
    meaning="rows in use of each step, without those that only fill it up",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
)
STEP_CAPACITY_ROWS = Metric(
    name="darkroom_step_capacity_rows_total",
    kind=MetricKind.COUNTER,
    unit="rows",
    labels=VERSION_LABELS,
    meaning="rows that the same steps would have had at the largest batch allowed",
)
PROMPT_CACHE_HITS = Metric(
    name="darkroom_prompt_cache_hits_total",
    kind=MetricKind.COUNTER,
    unit="lookups",
    labels=VERSION_LABELS,
    meaning="texts whose embeddings were at hand",
)
PROMPT_CACHE_MISSES = Metric(
    name="darkroom_prompt_cache_misses_total",
    kind=MetricKind.COUNTER,
    unit="lookups",
    labels=VERSION_LABELS,
    meaning="texts that had to be encoded",
)
PROMPT_CACHE_BYTES = Metric(
    name="darkroom_prompt_cache_bytes",
    kind=MetricKind.GAUGE,
    unit="bytes",
    labels=VERSION_LABELS,
    meaning="what the embeddings at hand take now",
)
IMAGES = Metric(
    name="darkroom_images_total",
    kind=MetricKind.COUNTER,
    unit="images",
    labels=VERSION_LABELS,
    meaning="finished images that came from workers",
)
IMAGE_BYTES = Metric(
    name="darkroom_image_bytes_total",
    kind=MetricKind.COUNTER,
    unit="bytes",
    labels=VERSION_LABELS,
    meaning="size of the same images, encoded",
)
WORKER_RESTARTS = Metric(
    name="darkroom_worker_restarts_total",
    kind=MetricKind.COUNTER,
    unit="restarts",
    labels=VERSION_LABELS,
    meaning="times that a worker was to be started in place of one that died",
)

RECOMPILES = Metric(
    name="darkroom_denoiser_recompiles_total",
    kind=MetricKind.COUNTER,
    unit="graphs",
    labels=VERSION_LABELS,
    meaning="graphs that torch compiled after the warm-up, while requests waited; stays 0",
)
UNCOMPILED_STEPS = Metric(
    name="darkroom_denoiser_uncompiled_steps_total",
    kind=MetricKind.COUNTER,
    unit="steps",
    labels=VERSION_LABELS,
    meaning="steps of a compiled denoiser that ran uncompiled: of a size not warmed up",
)

METRICS = (
    REQUESTS,
    HTTP_REQUESTS,
    HTTP_SECONDS,
    QUEUE,
    STEPS,
    STEP_ROWS,
    STEP_CAPACITY_ROWS,
    PROMPT_CACHE_HITS,
    PROMPT_CACHE_MISSES,
    PROMPT_CACHE_BYTES,
    IMAGES,
    IMAGE_BYTES,
    WORKER_RESTARTS,
    RECOMPILES,
    UNCOMPILED_STEPS,
)


class Metrics:
    """The values of all metrics, for one server. Safe to use from any thread.

    `labels` are the values of a metric's labels, in its order.
    """

    def __init__(self) -> None:
        # A series for the time at which each series began would be half of what is scraped.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._counters: dict[Metric, Counter] = {}
        self._gauges: dict[Metric, Gauge] = {}
        self._histograms: dict[Metric, Histogram] = {}
        #: How many editions of a version there are: an update has two for a while.
        self._edition_counts: dict[tuple[str, ...], int] = {}
        for metric in METRICS:
            self._register(metric)

    def _register(self, metric: Metric) -> None:
        name, text, labels = metric.name, f"{metric.meaning} ({metric.unit})", metric.labels
        match metric.kind:
            case MetricKind.COUNTER:
                self._counters[metric] = Counter(name, text, labels, registry=self._registry)
            case MetricKind.GAUGE:
                self._gauges[metric] = Gauge(name, text, labels, registry=self._registry)
            case MetricKind.HISTOGRAM:
                self._histograms[metric] = Histogram(
                    name, text, labels, registry=self._registry, buckets=metric.buckets
                )
            case _:
                assert_never(metric.kind)

    def introduce_version(self, labels: Sequence[str]) -> None:
        """Shows a version at zero: a series that begins with its first event hides that event."""
        version = tuple(labels)
        self._edition_counts[version] = self._edition_counts.get(version, 0) + 1
        for collector in self._of_versions():
            collector.labels(*labels)

    def forget_version(self, labels: Sequence[str]) -> None:
        """Ends the series of a version as often as it was introduced: each takes some KiB."""
        version = tuple(labels)
        self._edition_counts[version] -= 1
        if not self._edition_counts[version]:
            del self._edition_counts[version]
            for collector in self._of_versions():
                collector.remove(*labels)

    def _of_versions(self) -> list[Counter | Gauge | Histogram]:
        return [
            collector
            for collectors in (self._counters, self._gauges, self._histograms)
            for metric, collector in collectors.items()
            if metric.labels == VERSION_LABELS
        ]

    def count(self, metric: Metric, labels: Sequence[str], amount: float = 1) -> None:
        """Adds to a counter."""
        self._counters[metric].labels(*labels).inc(amount)

    def set(self, metric: Metric, labels: Sequence[str], value: float) -> None:
        """Sets a gauge."""
        self._gauges[metric].labels(*labels).set(value)

    def observe(self, metric: Metric, labels: Sequence[str], value: float, times: int = 1) -> None:
        """Adds a value to a histogram, so many times."""
        histogram = self._histograms[metric].labels(*labels)
        for _ in range(times):
            histogram.observe(value)

    def add(self, collector: Collector) -> None:
        """Shows what a collector has as well, whenever it is asked."""
        self._registry.register(collector)

    def render(self, accept: str) -> tuple[bytes, str]:
        """All values as text, and its media type: OpenMetrics for an Accept header with it."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type
