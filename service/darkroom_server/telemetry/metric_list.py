"""Every metric with its unit, labels and meaning, in one list: docs/metrics.md is made of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class MetricKind(enum.Enum):
    """How a metric's value moves; the value is Prometheus' name for it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric. `buckets`: upper bounds, of a histogram only.

    `values` are all that the last label can have, where that is known beforehand.
    """

    name: str
    kind: MetricKind
    unit: str
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()
    values: tuple[str, ...] = ()


#: Upper bounds for what takes from a moment to minutes.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
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
    buckets=SECONDS,
)
QUEUE = Metric(
    name="darkroom_queue_seconds",
    kind=MetricKind.HISTOGRAM,
    unit="seconds",
    labels=VERSION_LABELS,
    meaning="from admission until the work on a request first began",
    buckets=SECONDS,
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
    meaning="texts whose embeddings were cached",
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
    meaning="memory of the cached embeddings now",
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
ADMITTED = Metric(
    name="darkroom_admitted_total",
    kind=MetricKind.COUNTER,
    unit="requests",
    labels=VERSION_LABELS,
    meaning="requests for images that were accepted, as reported to their callers",
)

REFUSED = Metric(
    name="darkroom_refused_total",
    kind=MetricKind.COUNTER,
    unit="requests",
    labels=("model", "reason"),
    meaning="requests for images that were refused after they were read, by reason",
)

DEADLINE_MISSES = Metric(
    name="darkroom_deadline_misses_total",
    kind=MetricKind.COUNTER,
    unit="requests",
    labels=VERSION_LABELS,
    meaning="accepted requests whose deadline passed before their last image was made",
)

QUEUED = Metric(
    name="darkroom_queued_requests",
    kind=MetricKind.GAUGE,
    unit="requests",
    labels=VERSION_LABELS,
    meaning="accepted requests that nothing works on yet",
)

OLDEST = Metric(
    name="darkroom_oldest_queued_seconds",
    kind=MetricKind.GAUGE,
    unit="seconds",
    labels=VERSION_LABELS,
    meaning="how long the oldest of those has waited",
)

STAGE_SECONDS = Metric(
    name="darkroom_stage_seconds",
    kind=MetricKind.HISTOGRAM,
    unit="seconds",
    labels=(*VERSION_LABELS, "stage"),
    meaning="what a completed request spent in each stage; a shared step counts whole",
    buckets=SECONDS,
    values=("queue", "load", "encode", "denoise", "decode", "compress", "total"),
)

STEP_SECONDS = Metric(
    name="darkroom_step_seconds",
    kind=MetricKind.HISTOGRAM,
    unit="seconds",
    labels=VERSION_LABELS,
    meaning="how long denoising steps took; of pipelines run whole, all but the first",
    buckets=(0.001, 0.0025, *SECONDS),
)

APART_ROWS = Metric(
    name="darkroom_exact_apart_rows_total",
    kind=MetricKind.COUNTER,
    unit="rows",
    labels=VERSION_LABELS,
    meaning="rows that waited and had room in a step, and were kept apart to be exact",
)

FIRST_PREVIEW_SECONDS = Metric(
    name="darkroom_first_preview_seconds",
    kind=MetricKind.HISTOGRAM,
    unit="seconds",
    labels=VERSION_LABELS,
    meaning="from admission to the first preview",
    buckets=SECONDS,
)

ESTIMATE_ERROR = Metric(
    name="darkroom_estimate_error_ratio",
    kind=MetricKind.HISTOGRAM,
    unit="ratio",
    labels=VERSION_LABELS,
    meaning="how far the first estimate of a completed request was off, as a part of what it took",
    buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5),
)

MEGAPIXELS = Metric(
    name="darkroom_megapixels_total",
    kind=MetricKind.COUNTER,
    unit="megapixels",
    labels=VERSION_LABELS,
    meaning="size of finished images",
)

DEVICE_SECONDS = Metric(
    name="darkroom_device_seconds_total",
    kind=MetricKind.COUNTER,
    unit="seconds",
    labels=("key", "model"),
    meaning="what completed requests took of devices; of shared steps their images' part",
)

MEMORY_BYTES = Metric(
    name="darkroom_model_memory_bytes",
    kind=MetricKind.GAUGE,
    unit="bytes",
    labels=VERSION_LABELS,
    meaning="what the workers of a version hold of their devices",
)

STATES = Metric(
    name="darkroom_model_state",
    kind=MetricKind.GAUGE,
    unit="editions",
    labels=(*VERSION_LABELS, "state"),
    meaning="1 for the state that a version is in; an update has two editions for a while",
    values=("unloaded", "loading", "ready", "unavailable", "unloading", "failed"),
)

SWAPS = Metric(
    name="darkroom_model_swaps_total",
    kind=MetricKind.COUNTER,
    unit="swaps",
    labels=("model",),
    meaning="times that another version or edition took over a model while it was served",
)

FREED_SECONDS = Metric(
    name="darkroom_cancel_seconds",
    kind=MetricKind.HISTOGRAM,
    unit="seconds",
    labels=VERSION_LABELS,
    meaning="from a caller leaving until nothing of its request ran any more",
    buckets=(0.001, 0.0025, *SECONDS),
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
    ADMITTED,
    REFUSED,
    DEADLINE_MISSES,
    QUEUED,
    OLDEST,
    STAGE_SECONDS,
    STEP_SECONDS,
    APART_ROWS,
    FIRST_PREVIEW_SECONDS,
    ESTIMATE_ERROR,
    MEGAPIXELS,
    DEVICE_SECONDS,
    MEMORY_BYTES,
    STATES,
    SWAPS,
    FREED_SECONDS,
)
