from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace

import pytest

from darkroom_server.backends.fake import FAILING_PROMPT
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.worker import counters as counters_module
from darkroom_server.worker.counters import STATS_INTERVAL_S, WorkerCounters
from darkroom_server.worker.messages import Report, StopWorker, WorkerStats
from darkroom_server.worker.request_runner import request_loop
from tests.unit.worker.loop_bench import MAX_BATCH_SIZE, TICK_S, Bench, Clock, shared
from tests.unit.worker.window_bench import AT_ONCE, STEP_S, FakeRequestModel, WindowBench


@dataclass
class Embedding:
    nbytes: int


def stats_of(reports: list[Report]) -> list[WorkerStats]:
    return [report for report in reports if isinstance(report, WorkerStats)]


def test_steps_are_counted_by_their_rows() -> None:
    counters = WorkerCounters()
    for row_count in (4, 1, 4):
        counters.note_step(row_count, capacity_row_count=8)
    stats = counters.due_report(0.0)
    assert stats == WorkerStats(step_count_by_rows=((1, 1), (4, 2)), capacity_row_count=24)
    assert stats.step_count == 3


def test_the_prompt_cache_is_told_as_it_is() -> None:
    prompts = PromptCache(max_bytes=100)
    for text in ("a", "a", "b"):
        prompts.lookup(text, lambda: (Embedding(40),))
    assert WorkerCounters(prompts).due_report(0.0) == WorkerStats(
        prompt_cache_hit_count=1, prompt_cache_miss_count=2, prompt_cache_bytes=80
    )


def test_nothing_is_told_while_nothing_changes() -> None:
    counters = WorkerCounters()
    assert counters.due_report(0.0) is None
    assert counters.due_s() == math.inf
    counters.note_step(1, capacity_row_count=1)
    assert counters.due_report(10.0) is not None
    assert counters.due_report(10.0 + 2 * STATS_INTERVAL_S) is None


def test_the_first_is_told_at_once_and_the_next_after_a_while() -> None:
    counters = WorkerCounters()
    counters.note_step(1, capacity_row_count=1)
    assert counters.due_s() == -math.inf
    assert counters.due_report(10.0) is not None
    counters.note_step(1, capacity_row_count=1)
    assert counters.due_s() == 10.0 + STATS_INTERVAL_S
    assert counters.due_report(10.0 + 0.9 * STATS_INTERVAL_S) is None
    stats = counters.due_report(10.0 + STATS_INTERVAL_S)
    assert stats is not None
    assert stats.step_count == 2


def test_a_loop_tells_of_shared_steps_as_often_as_is_due_and_also_when_idle() -> None:
    bench = Bench()
    bench.loop.post(shared("a", step_count=3))
    bench.loop.post(shared("b", step_count=3))
    bench.ticks(3)
    assert [stats.step_count for stats in stats_of(bench.reports)] == [1, 3]
    bench.loop.post(shared("c", step_count=1))
    bench.ticks(1)
    assert len(stats_of(bench.reports)) == 2
    bench.ticks(round(STATS_INTERVAL_S / TICK_S))
    bench.lane.close()
    last = stats_of(bench.reports)[-1]
    assert sum(count for _, count in last.step_count_by_s) == 4
    assert replace(last, costs=(), step_count_by_s=()) == WorkerStats(
        step_count_by_rows=((1, 1), (2, 3)), capacity_row_count=4 * MAX_BATCH_SIZE
    )
    (cost,) = last.costs
    assert cost.pixel_count == 16 * 8
    assert dict(cost.step_s_by_rows)[2] > 0


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        pytest.param(
            "fine", WorkerStats(step_count_by_rows=((1, 1),), capacity_row_count=4), id="ran"
        ),
        pytest.param(FAILING_PROMPT, None, id="failed"),
    ],
)
def test_only_steps_that_ran_count(prompt: str, expected: WorkerStats | None) -> None:
    bench = Bench()
    bench.loop.post(shared("a", step_count=1, prompt=prompt))
    bench.ticks(1)
    bench.lane.close()
    told = [replace(one, costs=(), step_count_by_s=()) for one in stats_of(bench.reports)]
    assert told == ([] if expected is None else [expected])


def test_a_loop_of_whole_requests_counts_the_images_of_each_step() -> None:
    bench = WindowBench()
    bench.loop.post(shared("a", step_count=4, seeds=(1, 2)))
    bench.ticks(1)
    bench.clock.now_s += STATS_INTERVAL_S
    bench.ticks(1)
    bench.lane.close()
    told = stats_of(bench.reports)
    assert told[-1] == WorkerStats(
        step_count_by_rows=((2, 4),), capacity_row_count=16, step_count_by_s=((STEP_S, 3),)
    )
    # The first step is told at once, and one more once a second.
    assert [stats.step_count for stats in told] == [1, 1 + round(STATS_INTERVAL_S / STEP_S), 4]


def test_an_idle_loop_of_whole_requests_tells_of_its_last_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(counters_module, "STATS_INTERVAL_S", 0.1)
    told = threading.Event()

    def emit(report: Report) -> None:
        if isinstance(report, WorkerStats) and report.step_count == 2:
            told.set()

    # On the system's clock: the loop must wake up by itself.
    model = FakeRequestModel(Clock())
    loop = request_loop(model, emit, max_batch_size=MAX_BATCH_SIZE, batching=AT_ONCE)
    thread = threading.Thread(target=loop.run)
    thread.start()
    loop.post(shared("a", step_count=2))
    was_told = told.wait(300)
    loop.post(StopWorker())
    thread.join(300)
    assert was_told
