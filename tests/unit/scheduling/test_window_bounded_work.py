"""What the window batcher looks at does not grow with what waits. Counted in calls, not in time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import pytest

from darkroom_server.domain.dynamic_batching import DynamicBatching, QueuePolicy, TimeoutAction
from darkroom_server.domain.jobs import ImageSpec
from darkroom_server.scheduling import (
    ranking,
    run_costs,
    run_kinds,
    window_batcher,
    window_entry,
)
from darkroom_server.scheduling.run_costs import RunCosts
from darkroom_server.scheduling.window_batcher import WindowBatch, WindowBatcher
from tests.unit.specs import image_spec, job

FEW, MANY = 10, 10_000
MAX_IMAGES = 4
LATER_S = 1e6
BATCHING = DynamicBatching(
    max_queue_delay_s=LATER_S,
    default_queue_policy=QueuePolicy(timeout_action=TimeoutAction.DELAY, timeout_s=2 * LATER_S),
)
#: Where work is counted.
FILES = {
    module.__file__ for module in (ranking, run_costs, run_kinds, window_batcher, window_entry)
}


def work(call: Callable[[], object]) -> int:
    """Calls made within the batcher and its costs."""
    count = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        del argument
        count += event == "call" and frame.f_code.co_filename in FILES

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return count


@dataclass
class Crowd:
    """So many jobs that wait: all alike, each of a key of its own, or each by itself."""

    kind: str
    count: int
    costs: RunCosts = field(init=False)
    batcher: WindowBatcher = field(init=False)
    _number: int = 0

    def __post_init__(self) -> None:
        self.batcher = WindowBatcher(MAX_IMAGES, BATCHING)
        self.costs = RunCosts(MAX_IMAGES)
        for image_count in (1, 2, MAX_IMAGES):
            self.costs.learn(image_spec(), image_count, 1.0)
        for _ in range(self.count):
            self.add()

    def spec(self) -> dict[str, Any]:
        side_px = 8 * (self._number % 1000 + 1) if self.kind == "sizes" else 8
        return {"width_px": side_px, "seeds": (1, 2, 3)[: 1 + self._number % 3]}

    def add(self) -> str:
        self._number += 1
        name = str(self._number)
        key = name if self.kind == "keys" else "key"
        alone = self.kind == "alone"
        within_s = LATER_S * 3 + self._number if self._number % 2 else None
        made = job(name, deadline_s=within_s, **self.spec())
        self.batcher.add(made, key, 0.0, alone=alone)
        return name

    def estimate(self) -> None:
        newcomer = job("new")
        spec: ImageSpec = newcomer.spec
        ahead = self.batcher.ahead(newcomer, 1.0)
        alone = self.kind == "alone"
        told = self.costs.estimate_s(spec, alone=alone, ahead=ahead, running_s=0.0)
        assert told is not None

    def places(self) -> None:
        order: Iterator[str] = self.batcher.order()
        for _ in range(FEW):
            self.batcher.ahead_count(next(order))

    def run(self) -> None:
        """A batch from the plan to its end; as many come again as it took."""
        planned = self.batcher.plan(2 * LATER_S)
        assert isinstance(planned, WindowBatch)
        self.batcher.begin(planned)
        self.batcher.commit(planned)

    def wait(self) -> None:
        self.batcher.plan(0.0)

    def late(self) -> None:
        assert self.batcher.expired(LATER_S) == ()
        assert self.batcher.timed_out(LATER_S) == ()

    def come_and_go(self) -> None:
        self.batcher.remove(self.add())


VERBS = (Crowd.estimate, Crowd.places, Crowd.wait, Crowd.come_and_go, Crowd.late, Crowd.run)


@pytest.mark.parametrize("kind", ["alike", "keys", "alone", "sizes"])
def test_no_verb_does_more_when_more_wait(kind: str) -> None:
    few, many = Crowd(kind, FEW), Crowd(kind, MANY)
    for verb in VERBS:
        # The first run takes in, once, all that has waited long enough meanwhile.
        for crowd in (few, many):
            verb(crowd)
        least, most = work(lambda verb=verb: verb(few)), work(lambda verb=verb: verb(many))
        assert most <= 3 * least, f"{verb.__name__}: {least} calls, then {most}"


def test_an_estimate_counts_all_that_waits_however_many_sizes_there_are() -> None:
    """Kinds that are not counted one by one are counted together, by their pixels."""
    crowd = Crowd("sizes", 300)
    newcomer = job("new")
    pixel_steps = sum(
        one.image_step_count * one.kind.step_px for one in crowd.batcher.ahead(newcomer, LATER_S)
    )
    expected = sum(
        entry.kind.step_px * entry.job.spec.step_count * len(entry.remaining)
        for entry in crowd.batcher._entries.values()
        if entry.job.deadline_s is None
    )
    assert pixel_steps == pytest.approx(expected)


def test_what_has_gone_is_not_kept_while_others_wait() -> None:
    """A group that is always full, and one that never is, of which jobs come and go."""
    for kind in ("alike", "keys"):
        crowd = Crowd(kind, 2 * FEW)
        for _ in range(500):
            crowd.come_and_go()
        held = [len(group.dues) for group in crowd.batcher._groups.values()]
        held += [len(unready) for unready in crowd.batcher._unready.values()]
        assert max(held) <= 200
