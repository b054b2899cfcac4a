"""What the scheduler itself costs, however many requests wait: processor time of its verbs.

Not the clock's time: what else the machine does is none of the scheduler's.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from bench.ours import job_of, measure, shape_of
from bench.virtual import UNSATURATED
from bench.workloads import W_MIX, Arrival
from darkroom_server.domain.dynamic_batching import DynamicBatching
from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.jobs import Job
from darkroom_server.scheduling.admission import decide
from darkroom_server.scheduling.batch import Batch
from darkroom_server.scheduling.entry import Shape, Step
from darkroom_server.scheduling.run_costs import RunCosts
from darkroom_server.scheduling.step_batcher import StepBatcher
from darkroom_server.scheduling.step_costs import StepCosts
from darkroom_server.scheduling.window_batcher import WindowBatch, WindowBatcher

COUNTS = (10, 1_000, 10_000)
#: Rows of a step: so few that every queue fills it, or the steps would not be alike.
ROW_COUNT = 8
#: Times that a verb is timed for each queue in a round.
REPEAT_COUNT = 7
#: Fits any plan: nobody's deadline comes near, so that all queues are stepped alike.
FAR_S = 1e6
#: Those told their places and estimates: as many as the shortest queue has.
TOLD_COUNT = 10


Queue = TypeVar("Queue", "_Steps", "_Runs")


@dataclass(frozen=True, slots=True)
class VerbCost:
    """One verb: a ratio a round of the largest queue to the smallest, and medians by queue."""

    verb: str
    ratios: list[float]
    median_us: dict[int, float]


#: What is timed of a verb, once everything is there for it.
Timed = Callable[[], object]


@dataclass(slots=True)
class _Steps:
    """A step batcher with so many jobs, half of them promised, of two sizes."""

    count: int
    batcher: StepBatcher = field(init=False)
    now_s: float = 0.0
    _arrivals: Iterator[Arrival] = field(init=False)

    def __post_init__(self) -> None:
        costs = StepCosts(max_rows=ROW_COUNT)
        measure(costs, UNSATURATED)
        self.batcher = StepBatcher(costs)
        self._arrivals = _arrivals(self.count)
        self.fill()

    def fill(self) -> None:
        """As many as there are to be, again."""
        while len(self.batcher) < self.count:
            self._admit(*self._newcomer())

    def admission(self) -> Timed:
        """One more comes, as the worker takes it in."""
        newcomer = self._newcomer()
        return lambda: self._admit(*newcomer)

    def cancel(self) -> Timed:
        """One goes, from wherever it waits; so does one that fails."""
        job, shape = self._newcomer()
        self._admit(job, shape)
        return lambda: self.batcher.remove(job.job_id)

    def places(self) -> Timed:
        """Places and estimates of those that are told them."""

        def tell() -> None:
            told = list(itertools.islice(self.batcher.order(), TOLD_COUNT))
            self.batcher.estimates_s(told, self.now_s)
            self.batcher.ahead_count(told[-1])

        return tell

    def step(self) -> Timed:
        """The verbs of a step in which nothing finishes."""

        def step() -> None:
            self.batcher.expired(self.now_s)
            self._commit(self._planned(), ())

        return step

    def finish(self) -> Timed:
        """A step that everything in it ends with."""
        batch = self._planned()
        return lambda: self._commit(batch, batch.steps)

    def _newcomer(self) -> tuple[Job, Shape]:
        one = next(self._arrivals)
        return job_of(one, FAR_S + one.index if one.index % 2 else None), shape_of(one)

    def _admit(self, job: Job, shape: Shape) -> None:
        forecast = self.batcher.forecast(job, shape, self.now_s)
        admitted = decide(job, forecast, self.now_s, is_idle=False)
        assert not isinstance(admitted, DarkroomError)
        self.batcher.add(job, shape, self.now_s, admission=admitted)

    def _planned(self) -> Batch:
        batch = self.batcher.plan(self.now_s)
        assert batch is not None
        return batch

    def _commit(self, batch: Batch, finished: Sequence[Step]) -> None:
        self.batcher.commit(batch, finished, UNSATURATED.step_s(512, batch.row_count))


@dataclass(slots=True)
class _Runs:
    """A window batcher with so many jobs of two sizes, half of them with deadlines."""

    count: int
    batcher: WindowBatcher = field(init=False)
    costs: RunCosts = field(init=False)
    now_s: float = 0.0
    _arrivals: Iterator[Arrival] = field(init=False)

    def __post_init__(self) -> None:
        self.batcher = WindowBatcher(ROW_COUNT, DynamicBatching())
        self.costs = RunCosts(ROW_COUNT)
        self._arrivals = _arrivals(self.count)
        self.fill()
        for job in (self._newcomer() for _ in range(16)):
            self.costs.learn(job.spec, ROW_COUNT, 1.0)

    def fill(self) -> None:
        """As many as there are to be, again."""
        while len(self.batcher) < self.count:
            self._add(self._newcomer())

    def admission(self) -> Timed:
        """One more comes, and is told its place and an estimate."""
        job = self._newcomer()

        def admit() -> None:
            ahead = self.batcher.ahead(job, self.now_s)
            self.costs.estimate_s(job.spec, alone=False, ahead=ahead, running_s=0.0)
            assert self.batcher.has_room(job)
            self._add(job)
            self.batcher.ahead_count(job.job_id)

        return admit

    def cancel(self) -> Timed:
        """One goes, or fails."""
        job = self._newcomer()
        self._add(job)
        return lambda: self.batcher.remove(job.job_id)

    def places(self) -> Timed:
        """Places of those that are told them."""
        return lambda: list(itertools.islice(self.batcher.order(), TOLD_COUNT))

    def run(self) -> Timed:
        """The verbs of a run, with which all in it end."""

        def run() -> None:
            self.batcher.expired(self.now_s)
            self.batcher.timed_out(self.now_s)
            batch = self.batcher.plan(self.now_s)
            assert isinstance(batch, WindowBatch)
            self.batcher.begin(batch)
            self.batcher.commit(batch)

        return run

    def _newcomer(self) -> Job:
        one = next(self._arrivals)
        return job_of(one, FAR_S + one.index if one.index % 2 else None)

    def _add(self, job: Job) -> None:
        # All alike, so that every queue fills a run, or the runs would not be.
        self.batcher.add(job, "alike", self.now_s)


def _arrivals(count: int) -> Iterator[Arrival]:
    """As many and more, each with a number of its own."""
    rng = random.Random(0)
    drawn = itertools.cycle(W_MIX.arrivals(0, count + 1000))
    return (
        dataclasses.replace(one, index=index, size_px=rng.choice((512, 768)))
        for index, one in enumerate(drawn)
    )


#: What is timed.
STEP_VERBS: dict[str, Callable[[_Steps], Timed]] = {
    "admission": _Steps.admission,
    "cancel": _Steps.cancel,
    "places": _Steps.places,
    "step": _Steps.step,
    "finish": _Steps.finish,
}
RUN_VERBS: dict[str, Callable[[_Runs], Timed]] = {
    "admission of a whole run": _Runs.admission,
    "cancel of a whole run": _Runs.cancel,
    "places of whole runs": _Runs.places,
    "whole run": _Runs.run,
}


def verb_costs(rounds: int) -> list[VerbCost]:
    """Of every verb of the batchers."""
    return [*_costs(_Steps, STEP_VERBS, rounds), *_costs(_Runs, RUN_VERBS, rounds)]


def _costs(
    made: Callable[[int], Queue], verbs: Mapping[str, Callable[[Queue], Timed]], rounds: int
) -> Iterator[VerbCost]:
    """Alternates between the queues."""
    queues = {count: made(count) for count in COUNTS}
    for verb, call in verbs.items():
        taken_s: dict[int, list[float]] = {count: [] for count in COUNTS}
        for _ in range(rounds):
            for count, queue in queues.items():
                taken_s[count].append(_median_s(call, queue))
        ratios = [
            many / few for few, many in zip(taken_s[COUNTS[0]], taken_s[COUNTS[-1]], strict=True)
        ]
        medians = {
            count: round(statistics.median(values) * 1e6, 1) for count, values in taken_s.items()
        }
        yield VerbCost(verb, ratios, medians)


def _median_s(verb: Callable[[Queue], Timed], queue: Queue) -> float:
    taken_s = []
    for _ in range(REPEAT_COUNT):
        call = verb(queue)
        started_s = time.thread_time()
        call()
        taken_s.append(time.thread_time() - started_s)
        queue.fill()
    return statistics.median(taken_s)
