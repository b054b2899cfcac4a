"""No time of a clock crosses the pipe: the two processes may have clocks that differ."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable

import pytest

from darkroom_server.domain.errors import DeadlineExceeded
from darkroom_server.domain.jobs import JobCompleted
from darkroom_server.worker.main import Pipe
from darkroom_server.worker.messages import (
    CancelJob,
    Command,
    EarlierWork,
    StopWorker,
    SubmitJob,
    WorkerStats,
)
from darkroom_server.worker.sent_commands import received, sent
from tests.unit.specs import job
from tests.unit.worker.loop_bench import Bench, Clock, job_reports

#: What the worker's clock says when the server's says 0.
OFFSET_S = 1_000_000.0

AT: list[Callable[[float], Command]] = [
    lambda time_s: SubmitJob(job(deadline_s=time_s), True, EarlierWork(made_images=(0,))),
    lambda time_s: CancelJob("a", since_s=time_s),
    lambda _: SubmitJob(job()),
    lambda _: CancelJob("a"),
    lambda _: StopWorker(),
]
NAMES = ["submit", "cancel", "no-deadline", "nobody-left", "stop"]


@pytest.mark.parametrize("command_at", AT, ids=NAMES)
def test_what_is_sent_is_the_same_by_every_clock(command_at: Callable[[float], Command]) -> None:
    messages = [sent(command_at(now_s + 30.0), now_s) for now_s in (0.0, 64.0, OFFSET_S)]
    assert len({pickle.dumps(one) for one in messages}) == 1


@pytest.mark.parametrize("command_at", AT, ids=NAMES)
@pytest.mark.parametrize("in_s", [30.0, 0.0, -30.0])
def test_a_command_arrives_on_the_receivers_clock(
    command_at: Callable[[float], Command], in_s: float
) -> None:
    arrived = received(sent(command_at(64.0 + in_s), 64.0), OFFSET_S)
    expected = command_at(OFFSET_S + in_s)
    assert arrived == expected
    if isinstance(arrived, CancelJob) and isinstance(expected, CancelJob):
        assert arrived.since_s == expected.since_s, "which equality leaves out"


def test_a_worker_with_another_clock_keeps_deadlines_and_counts_freed_jobs() -> None:
    """The server's clock says 10 when the worker's says a million more."""
    clock = Clock()
    clock.now_s = OFFSET_S + 10.0
    bench = Bench(clock=clock)
    ours, theirs = multiprocessing.Pipe()
    for command in (
        SubmitJob(job("late", step_count=50, deadline_s=12.0)),
        SubmitJob(job("in-time", step_count=2, deadline_s=70.0)),
        SubmitJob(job("left", step_count=50)),
        CancelJob("left", since_s=9.0),
        StopWorker(),
    ):
        ours.send(sent(command, 10.0))
    Pipe(theirs, clock).read_into(bench.loop)
    bench.ticks(10)
    bench.lane.close()
    assert bench.failures() == {"late": DeadlineExceeded}
    done = [r.job_id for r in job_reports(bench.reports) if isinstance(r.event, JobCompleted)]
    assert done == ["in-time"]
    stats = [one for one in bench.reports if isinstance(one, WorkerStats)]
    assert [duration_s for duration_s, _ in stats[-1].freed_count_by_s] == [1.5]
