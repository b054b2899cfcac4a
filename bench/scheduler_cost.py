"""What the scheduler itself costs, however many requests wait: real time of its verbs."""

from __future__ import annotations

import dataclasses
import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bench.ours import job_of, measure, shape_of
from bench.virtual import UNSATURATED
from bench.workloads import W_MIX, Arrival
from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.jobs import Job
from darkroom_server.scheduling.admission import decide
from darkroom_server.scheduling.entry import Shape
from darkroom_server.scheduling.step_batcher import StepBatcher
from darkroom_server.scheduling.step_costs import StepCosts

COUNTS = (10, 1_000, 10_000)
#: Rows of a step: so few that every queue fills it, or the steps would not be alike.
ROW_COUNT = 8
#: Times that a verb is timed for each queue in a round.
REPEAT_COUNT = 7
#: Fits any plan: nobody's deadline comes near, so that all queues are stepped alike.
FAR_S = 1e6
#: Those told their places and estimates: as many as the shortest queue has.
TOLD_COUNT = 10


@dataclass(frozen=True, slots=True)
class VerbCost:
    """One verb: a ratio a round of the largest queue to the smallest, and medians by queue."""

    verb: str
    ratios: list[float]
    median_us: dict[int, float]


@dataclass(slots=True)
class _Queue:
    """A batcher with so many jobs, half of them promised, of two sizes."""

    count: int
    batcher: StepBatcher = field(init=False)
    now_s: float = 0.0
    _arrivals: Iterator[Arrival] = field(init=False)

    def __post_init__(self) -> None:
        costs = StepCosts(max_rows=ROW_COUNT)
        measure(costs, UNSATURATED)
        self.batcher = StepBatcher(costs)
        rng = random.Random(0)
        drawn = W_MIX.arrivals(0, self.count + 1000)
        self._arrivals = (
            dataclasses.replace(one, size_px=rng.choice((512, 768)))
            for one in itertools.cycle(drawn)
        )
        for _ in range(self.count):
            self.add()

    def newcomer(self) -> tuple[Job, Shape]:
        """A job that is not here."""
        one = next(self._arrivals)
        job = job_of(one, FAR_S + one.index if one.index % 2 else None)
        return job, shape_of(one)

    def add(self) -> str:
        """Admits one more, as the worker does."""
        job, shape = self.newcomer()
        forecast = self.batcher.forecast(job, shape, self.now_s)
        admitted = decide(job, forecast, self.now_s, is_idle=False)
        assert not isinstance(admitted, DarkroomError)
        self.batcher.add(job, shape, self.now_s, admission=admitted)
        return job.job_id

    def admission(self) -> None:
        """One comes, and to keep the length goes again, which is timed with it."""
        self.batcher.remove(self.add())

    def places(self) -> None:
        """Places and estimates of those that are told them."""
        told = list(itertools.islice(self.batcher.order(), TOLD_COUNT))
        self.batcher.estimates_s(told, self.now_s)
        self.batcher.ahead_count(told[-1])

    def step(self) -> None:
        """The verbs of a step; nothing finishes, so the queue keeps its length."""
        self.batcher.expired(self.now_s)
        batch = self.batcher.plan(self.now_s)
        assert batch is not None
        self.batcher.commit(batch, (), UNSATURATED.step_s(512, batch.row_count))


#: What is timed.
VERBS: dict[str, Callable[[_Queue], None]] = {
    "admission": _Queue.admission,
    "places": _Queue.places,
    "step": _Queue.step,
}


def verb_costs(rounds: int) -> list[VerbCost]:
    """Alternates between the queues."""
    queues = [_Queue(count) for count in COUNTS]
    found = []
    for verb, call in VERBS.items():
        taken_s: dict[int, list[float]] = {count: [] for count in COUNTS}
        for _ in range(rounds):
            for queue in queues:
                taken_s[queue.count].append(_median_s(call, queue))
        ratios = [
            many / few for few, many in zip(taken_s[COUNTS[0]], taken_s[COUNTS[-1]], strict=True)
        ]
        medians = {
            count: round(statistics.median(values) * 1e6, 1) for count, values in taken_s.items()
        }
        found.append(VerbCost(verb, ratios, medians))
    return found


def _median_s(call: Callable[[_Queue], None], queue: _Queue) -> float:
    taken_s = []
    for _ in range(REPEAT_COUNT):
        started_s = time.perf_counter()
        call(queue)
        taken_s.append(time.perf_counter() - started_s)
    return statistics.median(taken_s)
