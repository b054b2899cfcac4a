"""Where a job goes: where it is done soonest, beside its like while that is no later."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from darkroom_server.scheduling.pace import Load, Pace
from darkroom_server.scheduling.routing import ReplicaLoad, Task, choose, cost_s, step_s_of

#: Eight rows take little longer than one.
PACE = Pace(room=8, step_s=step_s_of({1: 1.0, 8: 1.4}), image_s=0.0)


def task(group: str, steps: int = 10) -> Task:
    return Task(group, PACE, Load(rows=1, evaluations=(steps,)))


def routed(
    loads: dict[str, ReplicaLoad], what: Task, *, homes: Sequence[str] | None = None
) -> str | None:
    homes = list(loads) if homes is None else homes
    alike = [one for one in homes if any(have.group == what.group for have in loads[one].tasks)]
    others = [one for one in loads if one not in homes]
    return choose(homes, alike, others, what, loads.__getitem__, random.Random(1))


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
    assert routed(loads, task("512")) == chosen


@pytest.mark.parametrize(
    ("home", "other", "chosen"),
    [
        pytest.param((task("512"),), (task("768"),), "home", id="a-busy-home-before-a-busy-other"),
        pytest.param((task("512"),), (task("768", 4),), "home", id="though-it-is-done-later"),
        pytest.param((task("512"),), (), "other", id="an-idle-one-before-a-busy-home"),
        pytest.param((task("768", 400),), (task("768", 4),), "other", id="what-is-much-sooner"),
    ],
)
def test_a_size_stays_at_its_homes_unless_others_are_much_better(
    home: tuple[Task, ...], other: tuple[Task, ...], chosen: str
) -> None:
    loads = {"home": ReplicaLoad(home), "other": ReplicaLoad(other)}
    assert routed(loads, task("512"), homes=["home"]) == chosen


def test_nothing_is_chosen_of_nothing() -> None:
    assert routed({}, task("512")) is None


def test_a_job_that_joins_steps_adds_less_than_one_that_does_not() -> None:
    busy = ReplicaLoad((task("512"),))
    assert cost_s(busy, task("512")) < cost_s(busy, task("768"))


def test_the_work_of_a_choice_does_not_grow_with_the_replicas() -> None:
    looked_at = Counter[str]()

    def load_of(name: str) -> ReplicaLoad:
        looked_at[name] += 1
        return ReplicaLoad()

    names = [str(number) for number in range(1000)]
    homes, others = names[:600], names[600:]
    assert choose(homes, names[:500], others, task("512"), load_of, random.Random(1)) in names
    assert sum(looked_at.values()) <= 6


def test_steps_between_what_is_known_are_on_a_line_and_beyond_in_proportion() -> None:
    step_s = step_s_of({2: 1.0, 4: 2.0})
    assert [step_s(rows) for rows in (1, 2, 3, 4, 8)] == [0.5, 1.0, 1.5, 2.0, 4.0]
