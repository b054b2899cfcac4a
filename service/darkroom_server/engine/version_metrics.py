"""The metrics of the workers of one version. Loop-bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from darkroom_server.domain.jobs import (
    JobCompleted,
    JobEvent,
    JobImage,
    JobPreview,
    JobProgress,
    JobQueued,
    JobTimings,
)
from darkroom_server.domain.model_status import VersionState
from darkroom_server.engine.active_job import ActiveJob
from darkroom_server.telemetry.metric_list import (
    APART_ROWS,
    DEADLINE_MISSES,
    ESTIMATE_ERROR,
    FIRST_PREVIEW_SECONDS,
    FREED_SECONDS,
    IMAGE_BYTES,
    IMAGES,
    MEGAPIXELS,
    MEMORY_BYTES,
    OLDEST,
    PROMPT_CACHE_BYTES,
    PROMPT_CACHE_HITS,
    PROMPT_CACHE_MISSES,
    QUEUE,
    QUEUED,
    RECOMPILES,
    STAGE_SECONDS,
    STATES,
    STEP_CAPACITY_ROWS,
    STEP_ROWS,
    STEP_SECONDS,
    STEPS,
    SWAPS,
    UNCOMPILED_STEPS,
    WORKER_RESTARTS,
    Metric,
)
from darkroom_server.telemetry.metrics import Metrics
from darkroom_server.worker.messages import WorkerStats

#: A call whose deadline passes ends a moment before the job's own clock says so.
DEADLINE_SLACK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionLook:
    """How a version is doing at a moment. `queued_since_s`: admissions that nothing works on."""

    state: VersionState
    memory_bytes: int
    queued_since_s: tuple[float, ...]


class VersionMetrics:
    """The metrics of one version. Counters go on where a dead worker's ended.

    `look` gives the state of the version before each scrape.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        model: str,
        version: int,
        look: Callable[[], VersionLook] | None = None,
    ) -> None:
        self._metrics = metrics
        self._labels = (model, str(version))
        self._look = look
        #: What each slot's present worker has reported already.
        self._reported: dict[int, WorkerStats] = {}
        #: This edition's part of gauges that it shares with others of its version.
        self._own: dict[tuple[Metric, tuple[str, ...]], float] = {}
        metrics.introduce_version(self._labels)
        if look is not None:
            metrics.look_before_scrapes(self._show)

    def forget(self) -> None:
        """Ends the series, unless another edition of the version goes on with them."""
        self._metrics.stop_looking(self._show)
        for (metric, labels), value in self._own.items():
            self._metrics.add(metric, labels, -value)
        self._own.clear()
        self._metrics.forget_version(self._labels)

    def _show(self, now_s: float) -> None:
        if self._look is None:
            return
        look = self._look()
        oldest_s = min(look.queued_since_s, default=now_s)
        self._share(QUEUED, len(look.queued_since_s))
        self._share(OLDEST, now_s - oldest_s)
        self._share(MEMORY_BYTES, look.memory_bytes)
        for state in VersionState:
            self._share(STATES, float(state is look.state), state.value)

    def _share(self, metric: Metric, value: float, *more: str) -> None:
        """Sets this edition's part of a gauge."""
        labels = (*self._labels, *more)
        known, self._own[metric, labels] = self._own.get((metric, labels), 0.0), value
        self._metrics.add(metric, labels, value - known)

    def job_event(self, active: ActiveJob, event: JobEvent, now_s: float) -> None:
        """Counts a worker's event of a job, before the job itself notes it."""
        waited_s = now_s - active.admitted_s
        match event:
            case JobQueued(estimated_s=estimated_s):
                if active.estimated_s is None and estimated_s is not None:
                    active.estimated_s = waited_s + estimated_s
            case JobProgress():
                if not active.is_begun and active.attempt_count == 0:
                    self._metrics.observe(QUEUE, self._labels, waited_s)
            case JobPreview():
                if not active.has_preview:
                    active.has_preview = True
                    self._metrics.observe(FIRST_PREVIEW_SECONDS, self._labels, waited_s)
            case JobImage():
                self._image_made(event)
            case JobCompleted(timings=timings):
                self._job_completed(active, timings)

    def _image_made(self, image: JobImage) -> None:
        self._metrics.count(IMAGES, self._labels)
        self._metrics.count(IMAGE_BYTES, self._labels, len(image.content))
        self._metrics.count(MEGAPIXELS, self._labels, image.width_px * image.height_px / 1e6)

    def _job_completed(self, active: ActiveJob, timings: JobTimings) -> None:
        for stage, seconds in (
            ("queue", timings.queue_s),
            ("load", timings.load_s),
            ("encode", timings.encode_s),
            ("denoise", timings.denoise_s),
            ("decode", timings.decode_s),
            ("compress", timings.compress_s),
            ("total", timings.total_s),
        ):
            self._metrics.observe(STAGE_SECONDS, (*self._labels, stage), max(0.0, seconds))
        if active.estimated_s is not None and timings.total_s > 0:
            error = abs(active.estimated_s - timings.total_s) / timings.total_s
            self._metrics.observe(ESTIMATE_ERROR, self._labels, error)

    def job_stopped(self, active: ActiveJob, now_s: float) -> None:
        """A job ends without its images, for its caller or for its deadline."""
        deadline_s = active.job.deadline_s
        if active.is_promised and deadline_s is not None and deadline_s <= now_s + DEADLINE_SLACK_S:
            self._metrics.count(DEADLINE_MISSES, self._labels)

    def swapped(self) -> None:
        """The version, or another edition of it, took over from one that served."""
        self._metrics.count(SWAPS, self._labels[:1])

    def worker_gone(self, slot: int) -> None:
        """The worker has ended: the next one counts from zero, and its cache is empty."""
        self._reported.pop(slot, None)
        self._sum_up_caches()

    def worker_restarted(self) -> None:
        """Another worker is about to be started."""
        self._metrics.count(WORKER_RESTARTS, self._labels)

    def worker_reported(self, slot: int, stats: WorkerStats) -> None:
        """Counts what the slot's present worker has done since its last report."""
        before, self._reported[slot] = self._reported.get(slot, WorkerStats()), stats
        self._observe_new(STEP_ROWS, stats.step_count_by_rows, before.step_count_by_rows)
        self._observe_new(STEP_SECONDS, stats.step_count_by_s, before.step_count_by_s)
        self._observe_new(FREED_SECONDS, stats.freed_count_by_s, before.freed_count_by_s)
        for metric, count, earlier_count in (
            (STEPS, stats.step_count, before.step_count),
            (STEP_CAPACITY_ROWS, stats.capacity_row_count, before.capacity_row_count),
            (APART_ROWS, stats.apart_row_count, before.apart_row_count),
            (PROMPT_CACHE_HITS, stats.prompt_cache_hit_count, before.prompt_cache_hit_count),
            (PROMPT_CACHE_MISSES, stats.prompt_cache_miss_count, before.prompt_cache_miss_count),
            (RECOMPILES, stats.recompile_count, before.recompile_count),
            (UNCOMPILED_STEPS, stats.uncompiled_step_count, before.uncompiled_step_count),
        ):
            self._metrics.count(metric, self._labels, count - earlier_count)
        self._sum_up_caches()

    def _observe_new(
        self,
        metric: Metric,
        counts: Iterable[tuple[float, int]],
        earlier_counts: Iterable[tuple[float, int]],
    ) -> None:
        """Adds to a histogram what a worker has counted by value since its last report."""
        earlier = dict(earlier_counts)
        for value, count in counts:
            self._metrics.observe(metric, self._labels, value, times=count - earlier.get(value, 0))

    def _sum_up_caches(self) -> None:
        cached_bytes = sum(one.prompt_cache_bytes for one in self._reported.values())
        self._metrics.set(PROMPT_CACHE_BYTES, self._labels, cached_bytes)
