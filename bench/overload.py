"""G5: what becomes of promises when more comes than can be done."""

from __future__ import annotations

from collections.abc import Sequence

from bench.measured import Estimate, Measured
from bench.ours import SharedSteps
from bench.scoring import Run, Setting, ours, percentile
from bench.virtual import Device
from bench.workloads import W_OVER, W_SOME, Arrival


def overload(
    device: Device, tier: str, *, seeds: Sequence[int], request_count: int, halvings: int
) -> list[Measured]:
    """G5 at 1.5 times the load that ours sustains: all requests with deadlines, and half."""
    all_told = Setting(workload=W_OVER, device=device, request_count=request_count)
    some_told = Setting(workload=W_SOME, device=device, request_count=request_count)
    runs: list[Run] = []
    mixed: list[Run] = []
    for seed in seeds:
        at_best = all_told.sustained(ours, seed, halvings=halvings)
        assert at_best is not None
        sustained_per_s = len(at_best.arrivals) / at_best.arrivals[-1].at_s
        runs.append(all_told.run(ours, W_OVER.load * sustained_per_s, seed))
        mixed.append(some_told.run(ours, W_SOME.load * sustained_per_s, seed))
    return [
        _misses("all with deadlines", tier, runs, target=0.05),
        _misses("half with deadlines", tier, mixed, target=0.01),
        Measured(
            goal="G5",
            tier=tier,
            metric="p95 error of the estimate given at admission, of those made",
            target=0.25,
            at_least=False,
            estimate=Estimate.of([_estimate_error(run) for run in runs]),
        ),
        Measured(
            goal="G5",
            tier=tier,
            metric="jobs done within the likely time given at admission, of those made",
            target=0.90,
            at_least=True,
            estimate=Estimate.of([_kept_share(run) for run in [*runs, *mixed]]),
            details={
                "likely_over_taken": [round(_width(run), 3) for run in [*runs, *mixed]],
            },
        ),
    ]


def _misses(who: str, tier: str, runs: Sequence[Run], *, target: float) -> Measured:
    shares, refused_shares = [], []
    for run in runs:
        told = [one for one in run.scored() if one.tells_deadline]
        admitted = _admitted(run, told)
        shares.append(1 - sum(map(run.met, admitted)) / len(admitted))
        refused_shares.append(round(1 - len(admitted) / len(told), 3))
    return Measured(
        goal="G5",
        tier=tier,
        metric=f"misses among admitted at {W_OVER.load} x load, {who}",
        target=target,
        at_least=False,
        estimate=Estimate.of(shares),
        details={"refused_shares": refused_shares},
    )


def _admitted(run: Run, arrivals: Sequence[Arrival]) -> list[Arrival]:
    assert isinstance(run.system, SharedSteps)
    return [one for one in arrivals if one.index not in run.system.refused]


def _estimate_error(run: Run) -> float:
    assert isinstance(run.system, SharedSteps)
    told_s = run.system.estimates_s
    off = sorted(abs(told_s[index] / taken_s - 1) for index, taken_s in _taken_s(run).items())
    return percentile(off, 0.95)


def _kept_share(run: Run) -> float:
    """Of the jobs that were made, those that were within the time that was told as likely."""
    assert isinstance(run.system, SharedSteps)
    told_s, taken_s = run.system.bounds_s, _taken_s(run)
    return sum(taken_s[index] <= told_s[index] for index in taken_s) / len(taken_s)


def _width(run: Run) -> float:
    """What was told as likely over what it took, in the median."""
    assert isinstance(run.system, SharedSteps)
    told_s = run.system.bounds_s
    over = sorted(told_s[index] / taken_s for index, taken_s in _taken_s(run).items())
    return percentile(over, 0.5)


def _taken_s(run: Run) -> dict[int, float]:
    """Seconds from arrival to image, of the requests that count and were made."""
    finished_s = run.trace.finished_s
    return {
        one.index: finished_s[one.index] - one.at_s
        for one in _admitted(run, run.scored())
        if one.index in finished_s
    }
