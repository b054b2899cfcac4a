from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from darkroom_server.telemetry.metric_list import (
    METRICS,
    PROMPT_CACHE_BYTES,
    REQUESTS,
    STEP_ROWS,
    VERSION_LABELS,
    Metric,
    MetricKind,
)
from darkroom_server.telemetry.metrics import Metrics

LABELS = ("tiny", "1")
#: Labels as `scraped` orders them.
ORDER = ("method", "model", "version", "code", "stage", "state", "le")


def scraped(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every value by its name and the values of its labels."""
    content, _ = metrics.render("")
    return {
        (sample.name, *(sample.labels[x] for x in ORDER if x in sample.labels)): sample.value
        for family in text_string_to_metric_families(content.decode())
        for sample in family.samples
    }


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_what_is_scraped_has_the_name_kind_and_unit_of_the_list(metric: Metric) -> None:
    content, _ = Metrics().render("")
    lines = content.decode().splitlines()
    assert f"# TYPE {metric.name} {metric.kind.value}" in lines
    assert f"# HELP {metric.name} {metric.meaning} ({metric.unit})" in lines


def test_nothing_is_scraped_that_is_not_in_the_list() -> None:
    content, _ = Metrics().render("")
    named = {line.split()[2] for line in content.decode().splitlines() if line.startswith("# TYPE")}
    assert named == {metric.name for metric in METRICS}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_end_as_their_kind_and_unit_ask(metric: Metric) -> None:
    assert metric.name.endswith("_total") == (metric.kind is MetricKind.COUNTER)
    if metric.unit in ("seconds", "bytes", "rows"):
        assert metric.unit in metric.name.split("_")
    assert bool(metric.buckets) == (metric.kind is MetricKind.HISTOGRAM)


def test_a_version_is_at_zero_before_anything_happens() -> None:
    metrics = Metrics()
    assert scraped(metrics) == {}
    metrics.introduce_version(LABELS)
    values = scraped(metrics)
    suffixes = {MetricKind.COUNTER: "", MetricKind.GAUGE: "", MetricKind.HISTOGRAM: "_count"}
    for metric in METRICS:
        if metric.labels == VERSION_LABELS:
            assert values[metric.name + suffixes[metric.kind], *LABELS] == 0
        for value in metric.values:
            assert values[metric.name + suffixes[metric.kind], *LABELS, value] == 0
    assert not [key for key in values if key[0] == REQUESTS.name]


def test_a_version_that_has_left_has_no_series_and_one_of_two_editions_keeps_them() -> None:
    metrics = Metrics()
    metrics.introduce_version(LABELS)
    metrics.introduce_version(LABELS)
    metrics.set(PROMPT_CACHE_BYTES, LABELS, 7)
    metrics.forget_version(LABELS)
    assert scraped(metrics)["darkroom_prompt_cache_bytes", *LABELS] == 7
    metrics.forget_version(LABELS)
    assert scraped(metrics) == {}
    metrics.introduce_version(LABELS)
    assert scraped(metrics)["darkroom_prompt_cache_bytes", *LABELS] == 0


def test_counters_add_gauges_replace_and_histograms_collect() -> None:
    metrics = Metrics()
    metrics.count(REQUESTS, ("/a/B", "tiny", "OK"))
    metrics.count(REQUESTS, ("/a/B", "tiny", "OK"), 2)
    metrics.set(PROMPT_CACHE_BYTES, LABELS, 7)
    metrics.set(PROMPT_CACHE_BYTES, LABELS, 5)
    metrics.observe(STEP_ROWS, LABELS, 3, times=2)
    values = scraped(metrics)
    assert values["darkroom_requests_total", "/a/B", "tiny", "OK"] == 3
    assert values["darkroom_prompt_cache_bytes", *LABELS] == 5
    assert values["darkroom_step_rows_sum", *LABELS] == 6
    buckets = [values["darkroom_step_rows_bucket", *LABELS, le] for le in ("2.0", "4.0", "+Inf")]
    assert buckets == [0, 2, 2]


@pytest.mark.parametrize(
    ("accept", "media_type", "last_line"),
    [
        pytest.param("", "text/plain", None, id="anything"),
        pytest.param("application/openmetrics-text", "openmetrics", "# EOF", id="openmetrics"),
    ],
)
def test_the_scraper_chooses_the_format(
    accept: str, media_type: str, last_line: str | None
) -> None:
    content, answered = Metrics().render(accept)
    assert media_type in answered
    assert (content.decode().splitlines()[-1] == "# EOF") == (last_line is not None)
