"""The registry that holds the values of all metrics.

Values live in the server's process; what workers count comes to it as reports.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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

from darkroom_server.telemetry.metric_list import METRICS, VERSION_LABELS, Metric, MetricKind


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
        #: Functions of the time that set gauges before each scrape; only time moves these.
        self._looks: set[Callable[[float], None]] = set()
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
        for metric, collector in self._of_versions():
            if metric.labels == VERSION_LABELS:
                collector.labels(*labels)
            for value in metric.values:
                collector.labels(*labels, value)

    def forget_version(self, labels: Sequence[str]) -> None:
        """Ends the series of a version as often as it was introduced: each takes some KiB."""
        version = tuple(labels)
        self._edition_counts[version] -= 1
        if not self._edition_counts[version]:
            del self._edition_counts[version]
            for _, collector in self._of_versions():
                collector.remove_by_labels(dict(zip(VERSION_LABELS, version, strict=True)))

    def _of_versions(self) -> list[tuple[Metric, Counter | Gauge | Histogram]]:
        return [
            (metric, collector)
            for collectors in (self._counters, self._gauges, self._histograms)
            for metric, collector in collectors.items()
            if metric.labels[: len(VERSION_LABELS)] == VERSION_LABELS
        ]

    def look_before_scrapes(self, look: Callable[[float], None]) -> None:
        """Calls `look` with the monotonic time before each scrape, until `stop_looking`."""
        self._looks.add(look)

    def stop_looking(self, look: Callable[[float], None]) -> None:
        """Calls it no more."""
        self._looks.discard(look)

    def count(self, metric: Metric, labels: Sequence[str], amount: float = 1) -> None:
        """Adds to a counter."""
        self._counters[metric].labels(*labels).inc(amount)

    def set(self, metric: Metric, labels: Sequence[str], value: float) -> None:
        """Sets a gauge."""
        self._gauges[metric].labels(*labels).set(value)

    def add(self, metric: Metric, labels: Sequence[str], amount: float) -> None:
        """Adds to a gauge."""
        self._gauges[metric].labels(*labels).inc(amount)

    def observe(self, metric: Metric, labels: Sequence[str], value: float, times: int = 1) -> None:
        """Adds a value to a histogram, `times` times."""
        histogram = self._histograms[metric].labels(*labels)
        for _ in range(times):
            histogram.observe(value)

    def add_collector(self, collector: Collector) -> None:
        """Shows what a collector has as well, whenever it is asked."""
        self._registry.register(collector)

    def render(self, accept: str) -> tuple[bytes, str]:
        """All values as text, and its media type: OpenMetrics for an Accept header with it."""
        now_s = time.monotonic()
        for look in tuple(self._looks):
            look(now_s)
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type
