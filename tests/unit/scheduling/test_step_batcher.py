from __future__ import annotations

import itertools
from collections.abc import Hashable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from darkroom_server.domain.jobs import Priority
from darkroom_server.scheduling.admission import Admission, Forecast
from darkroom_server.scheduling.entry import Shape, Step
from darkroom_server.scheduling.step_batcher import SLACK_FACTOR
from tests.unit.scheduling.simulated import Device
from tests.unit.specs import job

MAX_ROWS = 4


def simulated() -> Device:
    """Every step takes as long, whatever its rows up to four, and nothing is dropped when late."""
    return Device("even", max_rows=MAX_ROWS, keeps_late=True)


def test_requests_of_one_key_share_every_step() -> None:
    simulation = simulated()
    simulation.add("x", steps=2)
    simulation.add("y", steps=3)
    assert simulation.run() == [["x", "y"], ["x", "y"], ["y"]]


def test_a_request_joins_at_the_next_step() -> None:
    simulation = simulated()
    simulation.add("x", steps=3)
    simulation.step()
    simulation.add("y", steps=1)
    assert simulation.run() == [["x"], ["y", "x"], ["x"]]


def test_a_batch_stops_at_the_knee_and_looks_past_what_does_not_fit() -> None:
    simulation = simulated()
    simulation.add("x", rows=2, steps=1)
    simulation.add("y", rows=1, steps=1)
    simulation.add("z", rows=2, steps=1)
    simulation.add("w", rows=1, steps=1)
    assert simulation.run() == [["x", "y", "w"], ["z"]]


def test_exact_steps_are_shared_as_far_as_was_proved() -> None:
    simulation = simulated()
    for kinds, row_count in (((1,), 2), ((1, 2), 3)):
        simulation.batcher.shared.allow("a", kinds, row_count)
    for name, rows in (("x", 1), ("y", 1), ("z", 1), ("w", 2)):
        simulation.add(name, steps=1, rows=rows, exact=True)
    assert simulation.run() == [["x", "y"], ["z", "w"]]


def test_rows_kept_apart_for_exactness_are_counted() -> None:
    """`exact_apart_rows`: those that waited and had found room, had the step been as exact."""
    simulation = simulated()
    simulation.batcher.shared.allow("a", (1,), 2)
    for name in ("x", "y", "z"):
        simulation.add(name, steps=1, exact=True)
    assert simulation.run() == [["x", "y"], ["z"]]
    assert [batch.apart_row_count for batch in simulation.batches] == [1, 0]
    simulation = simulated()
    for name in ("x", "y", "z"):
        simulation.add(name, steps=1)
    simulation.run()
    assert [batch.apart_row_count for batch in simulation.batches] == [0]


def test_an_image_wider_than_the_knee_runs_by_itself() -> None:
    simulation = simulated()
    simulation.add("x", rows=MAX_ROWS + 1, steps=1)
    assert simulation.run() == [["x"]]


def test_short_requests_go_first_and_long_ones_age_to_the_front() -> None:
    simulation = simulated()
    simulation.add("long", rows=4, steps=10)
    simulation.step()
    simulation.add("short", rows=4, steps=1)
    assert simulation.step() is not None
    assert simulation.batches[-1].steps[0].job_id == "short"
    names = []
    for number in itertools.count():
        simulation.add(f"s{number}", rows=4, steps=1)
        batch = simulation.step()
        assert batch is not None
        names.append(batch.steps[0].job_id)
        if names[-1] == "long":
            break
    # The bound that the module states: both the long job and the typical one take ten seconds.
    assert 10 < len(names) <= SLACK_FACTOR * 10


def test_a_higher_priority_takes_the_next_step_and_spare_rows_go_to_the_lower() -> None:
    simulation = simulated()
    simulation.add("low", steps=5, priority=Priority.LOW)
    simulation.step()
    simulation.add("high", steps=1, rows=3, priority=Priority.HIGH)
    batch = simulation.step()
    assert batch is not None
    assert [one.job_id for one in batch.steps] == ["high", "low"]


def test_keys_take_turns() -> None:
    simulation = simulated()
    simulation.add("x", "a", steps=3)
    simulation.add("y", "b", steps=3)
    assert simulation.run() == [["x"], ["y"], ["x"], ["y"], ["x"], ["y"]]


def test_a_key_that_was_idle_saves_up_no_turns() -> None:
    simulation = simulated()
    simulation.add("x", "a", steps=8)
    for _ in range(4):
        simulation.step()
    simulation.add("y", "b", steps=4)
    turns = [name for [name] in simulation.run()[4:]]
    assert "yyy" not in "".join(turns)
    assert turns.count("y") == 4


def test_a_key_is_not_starved_by_keys_that_come_and_go() -> None:
    simulation = simulated()
    simulation.add("long", "c", steps=9)
    simulation.step()
    for number in range(20):
        simulation.add(f"s{number}", "ab"[number % 2], steps=1)
        simulation.step()
    turns = [number for number, batch in enumerate(simulation.batches) if batch.key == "c"]
    assert len(turns) >= 7
    assert max(after - before for before, after in itertools.pairwise(turns)) <= 3


def test_alone_means_alone_and_takes_turns_with_those_that_share() -> None:
    simulation = simulated()
    simulation.add("solo", steps=1, images=2, exact=True)
    simulation.add("x", steps=2)
    simulation.add("y", steps=2)
    assert sorted(simulation.run()) == [["solo"], ["solo"], ["x", "y"], ["x", "y"]]
    first, second = ({step.job_id for step in batch.steps} for batch in simulation.batches[:2])
    assert ("solo" in first) != ("solo" in second)


def test_of_requests_that_run_alone_one_ends_before_the_next_begins() -> None:
    simulation = simulated()
    for name in ("first", "second"):
        simulation.add(name, steps=3, exact=True)
    simulation.step()
    simulation.add("short", steps=1, exact=True)
    assert simulation.run() == [["first"], ["short"], *[["first"]] * 2, *[["second"]] * 3]


def test_a_deadline_that_cannot_wait_for_its_turn_goes_first() -> None:
    simulation = simulated()
    simulation.add("x", "a", steps=5)
    simulation.add("y", "b", steps=5)
    simulation.add("urgent", "c", steps=3, within_s=3.5)
    assert simulation.run()[:3] == [["urgent"]] * 3


def test_a_deadline_that_is_lost_gives_way() -> None:
    simulation = simulated()
    simulation.add("lost", rows=4, steps=9, within_s=3.0)
    simulation.add("x", rows=4, steps=1)
    assert simulation.run()[0] == ["x"]


def test_expired_jobs_are_told_and_removed_ones_forgotten() -> None:
    simulation = simulated()
    simulation.add("x", within_s=1.0)
    simulation.add("y")
    assert [late.job_id for late in simulation.batcher.expired(1.0)] == ["x"]
    simulation.batcher.remove("x")
    simulation.batcher.remove("unknown")
    assert len(simulation.batcher) == 1
    assert tuple(simulation.batcher.order()) == ("y",)
    assert simulation.batcher.expired(9.0) == ()


@pytest.mark.parametrize("evaluations", [3, 5])
def test_an_image_may_take_more_evaluations_than_steps(evaluations: int) -> None:
    simulation = simulated()
    simulation.add("x", steps=2)
    simulation.left[Step("x", 0)] = evaluations
    assert simulation.run() == [["x"]] * evaluations


arrivals = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from("abc"),
            "rows": st.integers(1, 2),
            "steps": st.integers(1, 6),
            "images": st.integers(1, 3),
            "exact": st.booleans(),
            "priority": st.sampled_from(list(Priority)),
            "within_s": st.none() | st.floats(1.0, 50.0),
        }
    ),
    max_size=12,
)


@settings(max_examples=50)
@given(arrivals, st.lists(st.integers(0, 3), max_size=12))
def test_every_image_ends_and_no_batch_mixes_keys_or_exceeds_the_knee(
    wanted: list[dict[str, object]], pauses: list[int]
) -> None:
    simulation = simulated()
    shapes: dict[str, dict[str, object]] = {}
    for number, arguments in enumerate(wanted):
        shapes[str(number)] = arguments
        simulation.add(str(number), **arguments)
        for _ in range(pauses[number] if number < len(pauses) else 0):
            simulation.step()
    simulation.run()
    assert set(simulation.left.values()) <= {0}
    assert len(simulation.batcher) == 0
    for batch in simulation.batches:
        assert {shapes[one.job_id]["key"] for one in batch.steps} == {batch.key}
        assert batch.row_count == sum(shapes[one.job_id]["rows"] for one in batch.steps)
        assert batch.row_count <= MAX_ROWS
        assert len(set(batch.steps)) == len(batch.steps)
        if any(shapes[one.job_id]["exact"] for one in batch.steps):
            assert len(batch.steps) == 1


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), min_size=2, max_size=20),
)
@example([("c", 2), ("a", 1), ("b", 1), ("a", 1), ("b", 1), ("a", 1)])
def test_a_key_with_work_waits_for_at_most_two_steps_of_every_other(
    wanted: list[tuple[str, int]],
) -> None:
    simulation = simulated()
    for number, (key, steps) in enumerate(wanted):
        simulation.add(str(number), key, steps=steps)
        simulation.step()
    simulation.run()
    keys = [batch.key for batch in simulation.batches]
    for key in set(keys):
        turns = [index for index, other in enumerate(keys) if other == key]
        for before, after in itertools.pairwise(turns):
            between = keys[before + 1 : after]
            # A key that had no work in between did not wait.
            if _had_work(simulation, key, before, after):
                assert all(between.count(other) <= 2 for other in set(between))


def _had_work(simulation: Device, key: Hashable, before: int, after: int) -> bool:
    """Whether some job of the key that ran at `after` had arrived by `before`."""
    return any(int(one.job_id) <= before for one in simulation.batches[after].steps) and (
        simulation.batches[after].key == key
    )


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 3)), min_size=1, max_size=8
    ),
    st.booleans(),
    st.integers(0, 4),
)
def test_where_nothing_else_comes_the_estimate_is_what_happens(
    wanted: list[tuple[int, int, int]], alone: bool, step_count: int
) -> None:
    simulation = simulated()
    for number, (rows, steps, images) in enumerate(wanted):
        simulation.add(str(number), rows=rows, steps=steps, images=images, exact=alone)
    for _ in range(step_count):
        simulation.step()
    started_s = simulation.now_s
    # Eight jobs at one time are too few to expect more.
    estimates_s = simulation.batcher.estimates_s(simulation.batcher.order(), started_s)
    assert set(estimates_s) == set(simulation.batcher.order())
    simulation.run()
    ends_s = {
        step.job_id: number + 1
        for number, batch in enumerate(simulation.batches)
        for step in batch.steps
    }
    assert estimates_s == {name: ends_s[name] - started_s for name in estimates_s}


def forecast(simulation: Device, key: str = "a", **options: Any) -> Forecast:
    within_s, steps = options.get("within_s"), options.get("steps", 2)
    made = job(
        "new",
        step_count=steps,
        priority=options.get("priority", Priority.NORMAL),
        deadline_s=None if within_s is None else simulation.now_s + within_s,
    )
    shape = Shape(key=key, rows=options.get("rows", 4), evaluations=steps)
    found = simulation.batcher.forecast(made, shape, simulation.now_s)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("options", "done_s", "breaks"),
    [
        pytest.param({"within_s": 5.0, "steps": 2}, 2.0, True, id="earlier, and in its way"),
        pytest.param({"within_s": 5.0, "steps": 1}, 1.0, False, id="earlier, and short enough"),
        pytest.param({"within_s": 99.0, "steps": 2}, 10.0, False, id="later"),
        pytest.param(
            {"within_s": 5.0, "steps": 2, "priority": Priority.HIGH},
            2.0,
            True,
            id="a promise to a lower priority is one, too",
        ),
        pytest.param(
            {"within_s": 5.0, "steps": 2, "key": "b"}, 4.0, True, id="takes turns with it"
        ),
    ],
)
def test_a_job_is_forecast_with_whose_deadline_it_would_break(
    options: dict[str, Any], done_s: float, breaks: bool
) -> None:
    simulation = simulated()
    simulation.add("here", rows=4, steps=8, within_s=10.0)
    found = forecast(simulation, **options)
    assert found.done_s == done_s
    assert found.breaks_until_s == (10.0 if breaks else None)


def test_a_deadline_that_is_missed_anyway_is_not_kept_for() -> None:
    simulation = simulated()
    simulation.add("lost", rows=4, steps=8, within_s=5.0)
    assert forecast(simulation, within_s=3.0, steps=2).breaks_until_s is None


def test_one_without_a_deadline_goes_behind_those_whose_deadline_it_would_break() -> None:
    simulation = simulated()
    simulation.add("here", rows=4, steps=500, within_s=552.0)
    found = forecast(simulation, steps=3)
    assert found.breaks_until_s == 552.0
    simulation.add("new", rows=4, steps=3, admission=Admission(behind_s=found.breaks_until_s))
    assert simulation.run() == [["here"]] * 500 + [["new"]] * 3


def test_a_step_that_runs_is_waited_for() -> None:
    simulation = simulated()
    simulation.add("here", rows=4, steps=8)
    simulation.batcher.plan(0.0)
    simulation.now_s = 0.25
    # Three quarters of the step are left; of the others it goes before seven.
    assert forecast(simulation, steps=1, within_s=9.0).done_s == 1.75
    assert simulation.batcher.estimates_s(("here",), 0.25) == {"here": 7.75}
