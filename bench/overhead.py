"""What the idle service adds to the pipeline it runs: latency over gRPC / latency called directly.

A pair is one request to the service and the same picture by the stock pipeline in this process,
with as many threads; pairs alternate which goes first. Reported is the median of the pairs' ratios
with its 95% bootstrap interval.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from bench.load import options
from bench.measured import Estimate, Measured
from bench.pipelines import PROMPT
from bench.setup import Bench
from bench.workloads import W_HOMOG, Arrival
from darkroom_client import Client


def idle_latency(bench: Bench, client: Client, size_px: int) -> Measured:
    """G4: one request after another, of 20 steps with guidance."""

    def direct(one: Arrival) -> None:
        bench.pipeline.run([one])

    def served(one: Arrival) -> None:
        client.generate(PROMPT, **options(one))

    arrivals = W_HOMOG.arrivals(1, bench.plays.pair_count, size_px=size_px)
    for one in arrivals[:2]:  # warm both
        direct(one)
        served(one)
    pairs = []
    for number, one in enumerate(arrivals):
        if number % 2:
            direct_s, served_s = _timed_s(direct, one), _timed_s(served, one)
        else:
            served_s, direct_s = _timed_s(served, one), _timed_s(direct, one)
        pairs.append((served_s, direct_s))
    return Measured(
        goal="G4",
        tier=bench.tier,
        metric=f"idle latency at {size_px} px, ours / bare diffusers",
        target=bench.targets.idle_latency,
        at_least=False,
        estimate=Estimate.of([served_s / direct_s for served_s, direct_s in pairs]),
        details={
            "served_median_s": round(statistics.median(served_s for served_s, _ in pairs), 4),
            "direct_median_s": round(statistics.median(direct_s for _, direct_s in pairs), 4),
        },
    )


def _timed_s(work: Callable[[Arrival], None], one: Arrival) -> float:
    started_s = time.perf_counter()
    work(one)
    return time.perf_counter() - started_s
