from __future__ import annotations

import pytest

from darkroom_server.scheduling.step_costs import StepCosts, bucket_of


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
        pytest.param(costs(r1=1.0, r2=1.2), 8, id="still-gaining-measure-on"),
    ],
)
def test_the_knee_is_where_a_larger_batch_stops_to_pay(known: StepCosts, knee: int) -> None:
    assert known.knee("k") == knee


def test_costs_in_between_are_in_proportion_to_the_nearest_known_bucket() -> None:
    known = costs(r2=1.0)
    assert known.step_s("k", 2) == 1.0
    assert known.step_s("k", 4) == 2.0
    assert known.step_s("k", 1) == 0.5
    assert known.step_s("other", 4) == 4 * known.unit_s


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
