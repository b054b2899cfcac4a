"""What the workers of one version do, as the metrics tell it. Loop-bound."""

from __future__ import annotations

from darkroom_server.telemetry.metrics import (
    IMAGE_BYTES,
    IMAGES,
    PROMPT_CACHE_BYTES,
    PROMPT_CACHE_HITS,
    PROMPT_CACHE_MISSES,
    QUEUE,
    RECOMPILES,
    STEP_CAPACITY_ROWS,
    STEP_ROWS,
    STEPS,
    UNCOMPILED_STEPS,
    WORKER_RESTARTS,
    Metrics,
)
from darkroom_server.worker.messages import WorkerStats


class VersionMetrics:
    """The metrics of one version. Counters go on where a dead worker's ended."""

    def __init__(self, metrics: Metrics, *, model: str, version: int) -> None:
        self._metrics = metrics
        self._labels = (model, str(version))
        #: What each slot's present worker has told already.
        self._told: dict[int, WorkerStats] = {}
        metrics.introduce_version(self._labels)

    def forget(self) -> None:
        """Ends the series, unless another edition of the version goes on with them."""
        self._metrics.forget_version(self._labels)

    def job_begun(self, queue_s: float) -> None:
        """A job was taken up for the first time."""
        self._metrics.observe(QUEUE, self._labels, queue_s)

    def image_made(self, size_bytes: int) -> None:
        """A finished image came."""
        self._metrics.count(IMAGES, self._labels)
        self._metrics.count(IMAGE_BYTES, self._labels, size_bytes)

    def worker_gone(self, slot: int) -> None:
        """The worker has ended: the next one counts from zero, and its cache is empty."""
        self._told.pop(slot, None)
        self._sum_up_caches()

    def worker_restarted(self) -> None:
        """Another worker is about to be started."""
        self._metrics.count(WORKER_RESTARTS, self._labels)

    def worker_told(self, slot: int, stats: WorkerStats) -> None:
        """Books what the slot's present worker has done since it last told."""
        told, self._told[slot] = self._told.get(slot, WorkerStats()), stats
        metrics, labels = self._metrics, self._labels
        told_count_by_rows = dict(told.step_count_by_rows)
        for row_count, step_count in stats.step_count_by_rows:
            new_count = step_count - told_count_by_rows.get(row_count, 0)
            metrics.observe(STEP_ROWS, labels, row_count, times=new_count)
        for metric, now, before in (
            (STEPS, stats.step_count, told.step_count),
            (STEP_CAPACITY_ROWS, stats.capacity_row_count, told.capacity_row_count),
            (PROMPT_CACHE_HITS, stats.prompt_cache_hit_count, told.prompt_cache_hit_count),
            (PROMPT_CACHE_MISSES, stats.prompt_cache_miss_count, told.prompt_cache_miss_count),
            (RECOMPILES, stats.recompile_count, told.recompile_count),
            (UNCOMPILED_STEPS, stats.uncompiled_step_count, told.uncompiled_step_count),
        ):
            metrics.count(metric, labels, now - before)
        self._sum_up_caches()

    def _sum_up_caches(self) -> None:
        cached_bytes = sum(one.prompt_cache_bytes for one in self._told.values())
        self._metrics.set(PROMPT_CACHE_BYTES, self._labels, cached_bytes)
