"""A promised deadline in the worker's loop, on the fake model whose steps grow with their rows."""

from __future__ import annotations

import pytest

from darkroom_server.backends.fake import FLAT, RISING, SATURATED, FakeStepModel
from darkroom_server.domain.jobs import JobCompleted, JobQueued
from darkroom_server.scheduling.step_costs import StepCosts
from tests.unit.worker.loop_bench import MAX_BATCH_SIZE, Bench, Clock, shared

KEY = ((16, 8), False)


@pytest.mark.parametrize("curve", [FLAT, RISING, SATURATED], ids=["flat", "rising", "saturated"])
def test_a_promise_is_kept_whatever_joins_its_batches(curve: dict[int, float]) -> None:
    clock, costs = Clock(), StepCosts(max_rows=MAX_BATCH_SIZE)
    for rows in (1, 2, 4):
        costs.learn(KEY, rows, curve[rows])

    def sleep(duration_s: float) -> None:
        clock.now_s += duration_s

    bench = Bench(FakeStepModel(step_s=1.0, curve=curve, sleep=sleep), costs=costs, clock=clock)
    due_s = clock() + 23.0
    bench.loop.post(shared("promised", step_count=20, deadline_s=due_s))
    for number in range(7):
        bench.loop.post(shared(str(number), step_count=40))
    while clock() < due_s + 1.0:
        bench.loop.tick()
    assert bench.failures() == {}
    told = bench.events("promised")
    assert told[0] == JobQueued(0, estimated_s=20.0, likely_within_s=23.0)
    assert isinstance(told[-1], JobCompleted)
