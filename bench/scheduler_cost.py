"""What the scheduler itself costs a step, however many requests wait: real time, no device."""

from __future__ import annotations

import dataclasses
import random
import statistics
import time
from dataclasses import dataclass

from bench.ours import job_of, shape_of
from bench.virtual import UNSATURATED
from bench.workloads import W_MIX
from darkroom_server.scheduling.step_batcher import StepBatcher
from darkroom_server.scheduling.step_costs import StepCosts

FEW, MANY = 10, 10_000
#: Rows of a step: so few that either queue fills it, or the steps would not be alike.
ROW_COUNT = 8
#: Steps timed for each size in a round.
STEP_COUNT = 7
#: Fits any plan: nobody's deadline comes near, so that both queues are stepped alike.
FAR_S = 1e6


@dataclass(frozen=True, slots=True)
class CostRatios:
    """One ratio a round, and the medians in microseconds."""

    ratios: list[float]
    few_us: float
    many_us: float


def step_cost_ratios(rounds: int) -> CostRatios:
    """Alternates between the two queues."""
    few, many = _batcher(FEW), _batcher(MANY)
    few_s, many_s = [], []
    for _ in range(rounds):
        few_s.append(_step_s(few))
        many_s.append(_step_s(many))
    ratios = [b / a for a, b in zip(few_s, many_s, strict=True)]
    us = [round(statistics.median(values) * 1e6, 1) for values in (few_s, many_s)]
    return CostRatios(ratios, *us)


def _batcher(job_count: int) -> StepBatcher:
    """Half of the jobs have deadlines; two sizes wait."""
    batcher = StepBatcher(StepCosts(max_rows=ROW_COUNT))
    rng = random.Random(0)
    for one in W_MIX.arrivals(0, job_count):
        deadline_s = FAR_S + rng.random() if one.index % 2 else None
        job = job_of(one, deadline_s)
        sized = dataclasses.replace(one, size_px=rng.choice((512, 768)))
        batcher.add(job, shape_of(sized), one.at_s)
    return batcher


def _step_s(batcher: StepBatcher) -> float:
    """Median time of the verbs of a step; nothing finishes, so the queue keeps its length."""
    taken_s, now_s = [], 0.0
    for _ in range(STEP_COUNT):
        started_s = time.perf_counter()
        batcher.expired(now_s)
        batch = batcher.plan(now_s)
        assert batch is not None
        batcher.commit(batch, (), UNSATURATED.step_s(512, batch.row_count))
        taken_s.append(time.perf_counter() - started_s)
    return statistics.median(taken_s)
