from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom_server.scheduling.step_costs import (
    OLD_AFTER_STEPS,
    RETRY_AFTER_STEPS,
    StepCosts,
    bucket_of,
)


@pytest.mark.parametrize(
    ("rows", "bucket"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8), (9, 16)]
)
def test_a_bucket_is_the_next_power_of_two(rows: int, bucket: int) -> None:
    assert bucket_of(rows) == bucket


def costs(**seconds: float) -> StepCosts:
    made = StepCosts(max_rows=8)
    for rows, duration_s in seconds.items():
        made.learn("k", int(rows.removeprefix("r")), duration_s)
    return made


@pytest.mark.parametrize(
    ("known", "knee"),
    [
        pytest.param(costs(), 8, id="nothing-known-measure"),
        pytest.param(costs(r1=1.0, r2=1.1, r4=1.2, r8=1.4), 8, id="unsaturated"),
        pytest.param(costs(r1=1.0, r2=1.95, r4=3.9, r8=7.8), 1, id="saturated"),
        pytest.param(costs(r1=1.0, r2=1.2, r4=2.35, r8=4.7), 2, id="knee-at-two"),
        pytest.param(costs(r1=1.0, r2=1.2), 4, id="still-gaining-measure-on"),
        pytest.param(costs(r2=1.0), 4, id="never-run-by-one"),
        pytest.param(costs(r1=0.6, r2=1.4, r4=1.1, r8=1.6), 8, id="one-row-is-cheap-by-itself"),
        pytest.param(costs(r1=1.0, r2=1.1, r4=2.3, r8=2.4), 8, id="four-rows-are-dear"),
        pytest.param(costs(r1=1.0, r2=1.92, r4=3.74, r8=7.2), 1, id="a-little-with-each-doubling"),
        pytest.param(costs(r2=1.0, r8=3.9), 4, id="what-is-between-is-measured-first"),
    ],
)
def test_the_knee_is_where_a_larger_batch_stops_to_pay(known: StepCosts, knee: int) -> None:
    assert known.knee("k") == knee


@pytest.mark.parametrize(
    ("known", "rows", "knee"),
    [
        pytest.param(costs(), 8, 4, id="nothing-known"),
        pytest.param(costs(), 5, 4, id="not-full"),
        pytest.param(costs(r1=1.0, r2=1.1, r4=1.2), 4, 2, id="although-it-would-pay"),
        pytest.param(costs(r4=1.0), 2, 1, id="and-never-run-by-fewer"),
        pytest.param(costs(r1=1.0), 1, 1, id="of-one"),
    ],
)
def test_what_ran_out_of_memory_bounds_the_knee_of_its_key(
    known: StepCosts, rows: int, knee: int
) -> None:
    known.ran_out("k", rows)
    assert known.knee("k") == knee
    assert known.knee("other") == 8
    assert all(math.isfinite(known.step_s("k", count)) for count in range(1, 9))


def test_what_ran_out_of_memory_is_tried_again_after_long() -> None:
    known = costs(r1=1.0, r2=1.1)
    known.ran_out("k", 8)
    known.ran_out("k", 4)
    for _ in range(RETRY_AFTER_STEPS):
        known.learn("k", 2, 1.1)
        assert known.knee("k") == 2
    known.learn("k", 2, 1.1)
    assert known.knee("k") == 4
    known.ran_out("k", 4)
    assert known.knee("k") == 2
    known.learn("k", 4, 1.2)
    assert known.knee("k") == 8, "it fits after all"


def test_costs_in_between_are_on_a_straight_line_and_beyond_in_proportion() -> None:
    known = costs(r2=1.0, r4=1.4)
    assert [known.step_s("k", rows) for rows in (1, 2, 3, 4, 8)] == pytest.approx(
        [0.5, 1.0, 1.2, 1.4, 2.8]
    )
    assert known.step_s("other", 3) == 3 * known.unit_s


def test_a_step_that_does_not_fill_its_bucket_tells_of_a_full_one() -> None:
    """Otherwise buckets would look cheap by steps of little more than half their rows."""
    known = costs(r4=2.0, r8=4.0)
    known.learn("k", 5, 2.5)
    assert known.step_s("k", 8) == pytest.approx(4.0)
    known.learn("k", 5, 5.0)
    assert known.step_s("k", 8) == pytest.approx(4.0 + 0.2 * 4.0)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 8), st.floats(0.001, 10.0)), max_size=40))
def test_no_cost_leaves_what_was_seen(steps: list[tuple[int, float]]) -> None:
    """However uneven steps are, a full one takes no less than the shortest of its bucket."""
    known = costs(r1=1.0, r2=1.0, r4=1.0, r8=1.0)
    for rows, duration_s in steps:
        known.learn("k", rows, duration_s)
    durations_s = [duration_s for _, duration_s in steps]
    for rows in (1, 2, 4, 8):
        assert min([1.0, *durations_s]) <= known.step_s("k", rows) * 1.000001
        assert known.step_s("k", rows) <= 2 * max([1.0, *durations_s])


@pytest.mark.parametrize(("rows", "knee"), [(5, 8), (6, 4)])
def test_an_unknown_bucket_is_measured_by_a_nearly_full_step(rows: int, knee: int) -> None:
    known = costs(r1=1.0, r2=1.2, r4=1.6)
    known.learn("k", rows, rows * 0.4)
    assert known.knee("k") == knee


def test_one_disturbed_step_moves_the_estimate_little() -> None:
    known = costs(r1=1.0)
    known.learn("k", 1, 2.0)
    assert known.step_s("k", 1) == pytest.approx(1.2)


def test_what_an_image_takes_besides_its_steps_is_learnt_by_part() -> None:
    known = costs()
    assert known.image_s("k") == 0.0
    known.learn_besides("k", "begin", 0.5)
    known.learn_besides("k", "decode", 1.0)
    known.learn_besides("k", "decode", 2.0)
    assert known.image_s("k") == pytest.approx(1.7)


def small_beside_large(*, larger_s: float) -> StepCosts:
    """A size with a quarter of the pixels of one whose costs are known."""
    known = StepCosts(max_rows=8)
    known.introduce("large", 4)
    for rows, duration_s in {1: 4.0, 2: 4.4, 4: larger_s}.items():
        known.learn("large", rows, duration_s)
    known.introduce("small", 1)
    return known


def test_a_size_that_is_not_known_is_guessed_from_the_nearest() -> None:
    known = small_beside_large(larger_s=5.0)
    assert [known.step_s("small", rows) for rows in (1, 2, 4, 8)] == [1.0, 1.1, 1.25, 2.5]
    assert known.knee("small") == 8


def test_guesses_rise_with_what_is_measured() -> None:
    """Small sizes cost more than their share; a guess left at its height would look unbeatable.

    Requests with guidance never run as one row, so that a guess for it is never corrected.
    """
    known = small_beside_large(larger_s=5.0)
    known.learn("small", 2, 4.4)
    assert [known.step_s("small", rows) for rows in (1, 2, 4)] == pytest.approx([4.0, 4.4, 5.0])
    assert known.knee("small") == 8


def test_a_batch_that_is_only_guessed_not_to_pay_is_tried_once() -> None:
    known = small_beside_large(larger_s=8.7)
    assert known.knee("large") == 2
    assert known.knee("small") == 4
    known.learn("small", 2, 1.1)
    known.learn("small", 4, 2.2)
    assert known.knee("small") == 2


def test_a_batch_that_did_not_pay_is_tried_again_after_long() -> None:
    known = costs(r1=1.0, r2=1.2, r4=24.0)
    for _ in range(OLD_AFTER_STEPS):
        assert known.knee("k") == 2
        known.learn("k", 2, 1.2)
    known.learn("k", 2, 1.2)
    assert known.knee("k") == 4
    known.learn("k", 4, 1.4)
    assert known.step_s("k", 4) == 1.4, "what was measured before was a disturbance"
    assert known.knee("k") == 8


def test_one_disturbed_step_of_few_rows_is_not_believed() -> None:
    """Steps of eight rows, and then one of a single row that took twelve times as long."""
    known = costs(r1=1.0, r2=1.3, r4=1.8, r8=2.55)
    for _ in range(100):
        known.learn("k", 8, 2.55)
    known.learn("k", 1, 12.0)
    assert known.step_s("k", 1) <= 1.2
    assert known.step_s("k", 8) == pytest.approx(2.55)


def test_a_first_step_of_few_rows_is_believed_to_take_no_more_than_one_of_more() -> None:
    known = costs(r8=2.55)
    known.learn("k", 1, 12.0)
    assert known.step_s("k", 1) == known.step_s("k", 8) == 2.55


def test_what_few_rows_seemed_to_take_gives_way_under_load() -> None:
    known = costs(r1=1.0, r8=2.55)
    for _ in range(12):
        known.learn("k", 1, 12.0)
    assert known.step_s("k", 1) > 2.55
    for _ in range(60):
        known.learn("k", 8, 2.55)
    assert known.step_s("k", 8) == pytest.approx(2.55, rel=0.01)


def test_uneven_costs_are_learnt_and_read_evenly() -> None:
    """One row takes 6, two 15, four 11, eight 16: more rows are still worth it."""
    known = costs(r1=6.0, r2=15.0, r4=11.0, r8=16.0)
    for _ in range(30):
        for rows, duration_s in {1: 6.0, 2: 15.0, 4: 11.0, 8: 16.0}.items():
            known.learn("k", rows, duration_s)
    read = [known.step_s("k", rows) for rows in range(1, 9)]
    assert read == sorted(read)
    assert known.step_s("k", 2) == pytest.approx(15.0, rel=0.1)
    assert known.knee("k") == 8


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 8), st.floats(0.001, 100.0)), max_size=60))
def test_fewer_rows_never_take_longer_than_more(steps: list[tuple[int, float]]) -> None:
    known = StepCosts(max_rows=8)
    for rows, duration_s in steps:
        known.learn("k", rows, duration_s)
    read = [known.step_s("k", rows) for rows in range(1, 17)]
    assert all(fewer <= more * (1 + 1e-9) for fewer, more in itertools.pairwise(read))
