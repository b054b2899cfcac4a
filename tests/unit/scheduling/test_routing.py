"""Where a job goes: where it is done soonest, beside its like while that is no later."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from darkroom_server.scheduling.pace import Load, Pace
from darkroom_server.scheduling.routing import ReplicaLoad, Task, choose, cost_s, step_s_of

#: Eight rows take little longer than one.
PACE = Pace(room=8, step_s=step_s_of({1: 1.0, 8: 1.4}), image_s=0.0)


def task(group: str, steps: int = 10) -> Task:
    return Task(group, PACE, Load(rows=1, evaluations=(steps,)))


def routed(loads: dict[str, ReplicaLoad], what: Task, *, avoided: frozenset[str]) -> str | None:
    names = list(loads)
    alike = [one for one in names if any(have.group == what.group for have in loads[one].tasks)]
    return choose(names, alike, what, loads.__getitem__, random.Random(1), avoided=avoided)


NOBODY = frozenset[str]()


@pytest.mark.parametrize(
    ("loads", "chosen"),
    [
        pytest.param({"a": ReplicaLoad((task("512"),)), "b": ReplicaLoad()}, "b", id="idle-first"),
        pytest.param(
            {"a": ReplicaLoad((task("768"),)), "b": ReplicaLoad((task("512"),))}, "b", id="its-like"
        ),
        pytest.param(
            {"a": ReplicaLoad((task("512", 200),)), "b": ReplicaLoad((task("768", 4),))},
            "a",
            id="its-like-has-more-left-and-shares-all-the-same",
        ),
        pytest.param(
            {
                "a": ReplicaLoad((*(task("768", 50) for _ in range(20)), task("512"))),
                "b": ReplicaLoad((task("768"),)),
            },
            "b",
            id="not-for-long-queues",
        ),
        pytest.param(
            {"a": ReplicaLoad((task("512"),), other_s=500.0), "b": ReplicaLoad((task("768"),))},
            "b",
            id="others-work-counts",
        ),
    ],
)
def test_a_job_goes_where_it_costs_least(loads: dict[str, ReplicaLoad], chosen: str) -> None:
    assert routed(loads, task("512"), avoided=NOBODY) == chosen


def test_what_is_avoided_is_left_out_and_nothing_is_chosen_of_nothing() -> None:
    loads = {"a": ReplicaLoad(), "b": ReplicaLoad((task("512"),))}
    assert routed(loads, task("512"), avoided=frozenset("a")) == "b"
    assert routed(loads, task("512"), avoided=frozenset("ab")) is None
    assert routed({}, task("512"), avoided=NOBODY) is None


def test_a_job_that_joins_steps_adds_less_than_one_that_does_not() -> None:
    busy = ReplicaLoad((task("512"),))
    assert cost_s(busy, task("512")) < cost_s(busy, task("768"))


def test_the_work_of_a_choice_does_not_grow_with_the_replicas() -> None:
    looked_at = Counter[str]()

    def load_of(name: str) -> ReplicaLoad:
        looked_at[name] += 1
        return ReplicaLoad()

    names = [str(number) for number in range(1000)]
    assert choose(names, names[:500], task("512"), load_of, random.Random(1)) in names
    assert sum(looked_at.values()) <= 4


def test_steps_between_what_is_known_are_on_a_line_and_beyond_in_proportion() -> None:
    step_s = step_s_of({2: 1.0, 4: 2.0})
    assert [step_s(rows) for rows in (1, 2, 3, 4, 8)] == [0.5, 1.0, 1.5, 2.0, 4.0]
