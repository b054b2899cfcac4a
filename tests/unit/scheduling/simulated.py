"""A batcher on a device whose steps cost more with their rows, on a clock of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from darkroom_server.backends.fake import FLAT, RISING, SATURATED, stretch
from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.jobs import Job, Priority
from darkroom_server.scheduling.admission import PROMISE_MARGIN, Admission, decide
from darkroom_server.scheduling.batch import Batch
from darkroom_server.scheduling.entry import Shape, Step
from darkroom_server.scheduling.step_batcher import StepBatcher
from darkroom_server.scheduling.step_costs import StepCosts
from tests.unit.specs import job

MAX_ROWS = 8
STEP_S = 1.0
#: Seconds of a step by its rows; on an even device every step takes as long, whatever its rows.
CURVES: dict[str, dict[int, float]] = {
    "flat": FLAT,
    "rising": RISING,
    "saturated": SATURATED,
    "even": {1: STEP_S, 2: STEP_S, 4: STEP_S},
}


@dataclass
class Device:
    """Plays what a worker's loop does: admits, steps, drops what is late, unless `keeps_late`.

    `disturbed` makes a step longer by so many times, by its number.
    """

    curve: str
    max_rows: int = MAX_ROWS
    keeps_late: bool = False
    keys: tuple[Hashable, ...] = ("a", "b", "c")
    disturbed: Callable[[int], float] = lambda _: 1.0
    #: What an image takes when its steps are done.
    decode_s: float = 0.0
    #: Rows of steps that were proved exact, for what shares no others.
    proved_rows: tuple[int, ...] = ()
    now_s: float = 0.0
    left: dict[Step, int] = field(default_factory=dict)
    #: When jobs ended, those dropped at their deadline, and the deadlines promised.
    ended_s: dict[str, float] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)
    promised_s: dict[str, float] = field(default_factory=dict)
    refused: dict[str, DarkroomError] = field(default_factory=dict)
    used_s: dict[str, float] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)
    callers: dict[str, str] = field(default_factory=dict)
    #: The step that is taken, when it was begun, and how long it takes.
    running: tuple[Batch, float, float] | None = None

    def __post_init__(self) -> None:
        costs = StepCosts(max_rows=self.max_rows, unit_s=STEP_S)
        for key in self.keys:
            for rows, duration_s in CURVES[self.curve].items():
                costs.learn(key, rows, duration_s)
            if self.decode_s:
                costs.learn_besides(key, "decode", self.decode_s)
        self.batcher = StepBatcher(costs)
        for key, rows in itertools.product(self.keys, self.proved_rows):
            for kinds in ((1,), (2,), (1, 2)):
                self.batcher.shared.allow(key, kinds, rows)

    def ask(
        self,
        name: str,
        key: Hashable = "a",
        *,
        rows: int = 1,
        steps: int = 2,
        images: int = 1,
        alone: bool = False,
        priority: Priority = Priority.NORMAL,
        within_s: float | None = None,
        caller: str = "",
        weight: float = 1.0,
    ) -> bool:
        """A job comes; whether it is taken in."""
        made = self._job(name, steps, images, priority, within_s, caller=caller, weight=weight)
        shape = Shape(key=key, rows=rows, evaluations=steps, exact=alone)
        forecast = self.batcher.forecast(made, shape, self.now_s)
        is_idle = not len(self.batcher)
        admitted = decide(made, forecast, self.now_s, is_idle=is_idle)
        if isinstance(admitted, DarkroomError):
            self.refused[name] = admitted
            return False
        self.batcher.add(made, shape, self.now_s, admission=admitted)
        self.left |= {Step(name, index): steps for index in range(images)}
        self.callers[name] = caller
        if made.deadline_s is not None and admitted.reserve_s is not None and forecast is not None:
            # An idle device also tries, with what reserve there is, what has less than the margin.
            needed_s = (PROMISE_MARGIN - 1) * (forecast.kept_s or forecast.done_s)
            if admitted.reserve_s >= needed_s - 1e-9:
                self.promised_s[name] = made.deadline_s
        return True

    def add(
        self,
        name: str,
        key: Hashable = "a",
        *,
        rows: int = 1,
        steps: int = 2,
        images: int = 1,
        exact: bool = False,
        priority: Priority = Priority.NORMAL,
        within_s: float | None = None,
        admission: Admission | None = None,
    ) -> None:
        """A job is taken in that was not asked about: its deadline is promised."""
        made = self._job(name, steps, images, priority, within_s)
        shape = Shape(key=key, rows=rows, evaluations=steps, exact=exact)
        self.batcher.add(made, shape, self.now_s, admission=admission)
        self.left |= {Step(name, index): steps for index in range(images)}

    def _job(
        self,
        name: str,
        steps: int,
        images: int,
        priority: Priority,
        within_s: float | None,
        **options: Any,
    ) -> Job:
        return job(
            name,
            step_count=steps,
            seeds=tuple(range(images)),
            priority=priority,
            deadline_s=None if within_s is None else self.now_s + within_s,
            **options,
        )

    def cancel(self, name: str) -> None:
        """Its caller goes: nothing is owed to it any more."""
        self.batcher.remove(name)
        self.promised_s.pop(name, None)

    def step(self) -> Batch | None:
        """Takes one step; None when there is nothing to do."""
        batch = self.begin()
        if batch is not None:
            self.end()
        return batch

    def begin(self) -> Batch | None:
        """Begins a step, during which others may come; None when there is nothing to do."""
        if not self.keeps_late:
            for late in self.batcher.expired(self.now_s):
                self.late.add(late.job_id)
                self.batcher.remove(late.job_id)
        batch = self.batcher.plan(self.now_s)
        if batch is None:
            return None
        assert batch == self.batcher.plan(self.now_s)
        duration_s = stretch(CURVES[self.curve], batch.row_count) * self.disturbed(
            len(self.batches)
        )
        self.running = (batch, self.now_s, duration_s)
        self.batches.append(batch)
        return batch

    @property
    def busy_s(self) -> float:
        """Seconds of the step that is taken, from its beginning."""
        return 0.0 if self.running is None else self.running[2]

    def end(self) -> None:
        """The step that was begun is done, and what it finished is decoded."""
        assert self.running is not None
        (batch, began_s, duration_s), self.running = self.running, None
        self.now_s = began_s + duration_s
        for one in batch.steps:
            self.left[one] -= 1
            caller = self.callers.get(one.job_id, "")
            share_s = duration_s / len(batch.steps)
            self.used_s[caller] = self.used_s.get(caller, 0.0) + share_s
        finished = [one for one in batch.steps if self.left[one] == 0]
        for one in finished:
            self.now_s += self.decode_s
            if not any(left for step, left in self.left.items() if step.job_id == one.job_id):
                self.ended_s[one.job_id] = self.now_s
        self.batcher.commit(batch, finished, duration_s)

    def run(self) -> list[list[str]]:
        """To the end: the names that shared each step."""
        while self.step() is not None:
            pass
        return [[one.job_id for one in batch.steps] for batch in self.batches]

    def broken(self) -> dict[str, float]:
        """Promises that were not kept, and when those jobs were made."""
        return {
            name: self.ended_s.get(name, float("inf"))
            for name, deadline_s in self.promised_s.items()
            if self.ended_s.get(name, float("inf")) > deadline_s + 1e-6
        }
