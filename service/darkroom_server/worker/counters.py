"""What a worker counts while it works. Belongs to the loop's thread."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from darkroom_server.backends.base import CompileCounts
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.scheduling.step_costs import StepCosts
from darkroom_server.worker.messages import SizeCost, WorkerStats

#: Least interval between two reports to the server.
STATS_INTERVAL_S = 1.0


class WorkerCounters:
    """Counts steps, and says when the server should hear of them."""

    def __init__(
        self,
        prompts: PromptCache | None = None,
        compile_counts: Callable[[], CompileCounts] = CompileCounts,
        proofs: Callable[[], tuple[int, bool]] = lambda: (0, False),
    ) -> None:
        #: Rows of the largest step that was proved exact, and whether more is being proved.
        self._proofs = proofs
        self._prompts = prompts
        self._compile_counts = compile_counts
        self._step_count_by_rows: Counter[int] = Counter()
        self._capacity_row_count = 0
        self._apart_row_count = 0
        self._step_count_by_s: Counter[float] = Counter()
        self._freed_count_by_s: Counter[float] = Counter()
        #: What steps cost, where they are shared.
        self._costs: StepCosts | None = None
        self._reported = WorkerStats()
        self._reported_s = -math.inf

    def note_shared_step(self, row_count: int, costs: StepCosts) -> None:
        """Counts a step of a model whose steps cost this."""
        self._costs = costs
        self.note_step(row_count, capacity_row_count=costs.max_rows)

    def note_step(self, row_count: int, *, capacity_row_count: int) -> None:
        """Counts a step of `row_count` rows, of those that were allowed."""
        self._step_count_by_rows[row_count] += 1
        self._capacity_row_count += capacity_row_count

    def note_step_s(self, duration_s: float) -> None:
        """Counts what a step took."""
        self._step_count_by_s[to_two_digits(duration_s)] += 1

    def note_apart(self, row_count: int) -> None:
        """Counts rows that waited and had room in a step, had it been exact with them."""
        self._apart_row_count += row_count

    def note_freed(self, duration_s: float) -> None:
        """Counts what it took from the end of a caller until its work held nothing up."""
        self._freed_count_by_s[to_two_digits(duration_s)] += 1

    def due_s(self) -> float:
        """When `due_report` returns something; infinite while nothing has changed."""
        if self._stats() == self._reported:
            return math.inf
        return self._reported_s + STATS_INTERVAL_S

    def due_report(self, now_s: float) -> WorkerStats | None:
        """The statistics to report now, if any; they count as reported."""
        if (
            now_s < self._reported_s + STATS_INTERVAL_S
            or (stats := self._stats()) == self._reported
        ):
            return None
        self._reported, self._reported_s = stats, now_s
        return stats

    def _stats(self) -> WorkerStats:
        prompts, compiled = self._prompts, self._compile_counts()
        proved_row_count, is_proving = self._proofs()
        return WorkerStats(
            step_count_by_rows=tuple(sorted(self._step_count_by_rows.items())),
            capacity_row_count=self._capacity_row_count,
            apart_row_count=self._apart_row_count,
            step_count_by_s=tuple(sorted(self._step_count_by_s.items())),
            freed_count_by_s=tuple(sorted(self._freed_count_by_s.items())),
            prompt_cache_hit_count=0 if prompts is None else prompts.hit_count,
            prompt_cache_miss_count=0 if prompts is None else prompts.miss_count,
            prompt_cache_bytes=0 if prompts is None else prompts.held_bytes,
            recompile_count=compiled.recompile_count,
            uncompiled_step_count=compiled.uncompiled_step_count,
            proved_row_count=proved_row_count,
            is_proving=is_proving,
            costs=() if self._costs is None else _by_size(self._costs),
        )


def to_two_digits(duration_s: float) -> float:
    """A duration rounded to two digits, so that there are few different ones."""
    return float(f"{max(0.0, duration_s):.1e}")


def _by_size(costs: StepCosts) -> tuple[SizeCost, ...]:
    return tuple(
        SizeCost(
            pixel_count=pixel_count,
            room=costs.knee(key),
            step_s_by_rows=tuple(sorted(curve.items())),
            image_s=costs.image_s(key),
        )
        for key, pixel_count, curve in costs.by_size()
    )
