"""For every metric a test that makes what it counts happen, and looks at it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from darkroom_server.telemetry.metric_list import METRICS, Metric

TESTS = Path(__file__).parents[2]
_TELEMETRY = "e2e/test_telemetry.py::"
_SCRAPED = "e2e/test_metrics.py::test_two_requests_of_one_text_are_seen_in_every_metric"
_STAGES = f"{_TELEMETRY}test_a_request_moves_the_metrics_of_its_stages"
_WAITS = f"{_TELEMETRY}test_what_waits_is_told_until_work_begins_and_what_was_cancelled_is_timed"
_DIES = "integration/engine/test_metrics.py::test_a_worker_that_dies_takes_no_counts_with_it"
#: Of servers and workers that run, but where the second of two is named.
MOVED_BY = {
    "requests_total": (_SCRAPED,),
    "http_requests_total": (_SCRAPED,),
    "http_request_seconds": ("e2e/test_metrics.py::asked_over_http",),
    "queue_seconds": (_SCRAPED,),
    "steps_total": (_SCRAPED,),
    "step_rows": (_SCRAPED,),
    "step_capacity_rows_total": (_SCRAPED,),
    "prompt_cache_hits_total": (_SCRAPED,),
    "prompt_cache_misses_total": (_SCRAPED,),
    "prompt_cache_bytes": (_SCRAPED,),
    "images_total": (_SCRAPED,),
    "image_bytes_total": (_SCRAPED,),
    "worker_restarts_total": (_DIES,),
    # What compiles counts, and what is told is booked.
    "denoiser_recompiles_total": (
        "unit/engine/test_version_metrics.py::test_what_a_compiled_denoiser_counts_is_booked_once",
    ),
    "denoiser_uncompiled_steps_total": (
        "unit/engine/test_version_metrics.py::test_what_a_compiled_denoiser_counts_is_booked_once",
    ),
    "admitted_total": (_STAGES,),
    "refused_total": (f"{_TELEMETRY}test_a_refused_request_is_counted_by_reason",),
    "deadline_misses_total": (f"{_TELEMETRY}test_a_deadline_that_passes_is_a_miss",),
    "queued_requests": (_WAITS,),
    "oldest_queued_seconds": (_WAITS,),
    "stage_seconds": (_STAGES,),
    "step_seconds": (_STAGES, _SCRAPED),
    # What the batcher keeps apart, and what is told is booked.
    "exact_apart_rows_total": (
        "unit/scheduling/test_step_batcher.py::test_rows_kept_apart_for_exactness_are_counted",
        "unit/engine/test_version_metrics.py::test_durations_that_a_worker_tells_are_booked_once",
    ),
    "first_preview_seconds": (_STAGES,),
    "estimate_error_ratio": (_STAGES,),
    "megapixels_total": (_STAGES,),
    "device_seconds_total": (
        _STAGES,
        "integration/rpc/test_use_of_keys.py::seconds_by_key",
    ),
    "model_memory_bytes": (_SCRAPED,),
    "model_state": (_STAGES,),
    "model_swaps_total": (
        "integration/engine/test_updates.py::test_a_new_version_takes_over_and_the_old_one_leaves",
    ),
    "cancel_seconds": (_WAITS,),
}


def source_of(test: str) -> str:
    """The text of a test; raises LookupError where there is none of the name."""
    file, _, name = test.partition("::")
    text = (TESTS / file).read_text()
    for one in ast.walk(ast.parse(text)):
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and one.name == name:
            return ast.get_source_segment(text, one) or ""
    raise LookupError(test)


def test_no_metric_is_left_out() -> None:
    assert set(MOVED_BY) == {metric.name.removeprefix("darkroom_") for metric in METRICS}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_what_moves_a_metric_looks_at_it(metric: Metric) -> None:
    name = metric.name.removeprefix("darkroom_")
    for test in MOVED_BY[name]:
        assert name.removesuffix("_total") in source_of(test), test
