from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom_server.scheduling import forecast
from darkroom_server.scheduling.forecast import (
    LEAST_COUNT,
    Arrival,
    Load,
    Pace,
    RecentArrivals,
    finish_times_s,
)


def flat(*, room: int, image_s: float = 0.0) -> Pace:
    """Every step takes a second, whatever its rows."""
    return Pace(room=room, step_s=lambda _: 1.0, image_s=image_s)


def load(*evaluations: int, rows: int = 1) -> Load:
    return Load(rows=rows, evaluations=evaluations)


@pytest.mark.parametrize(
    ("loads", "pace", "expected"),
    [
        pytest.param([load(3)], flat(room=4), [3.0], id="one by itself"),
        pytest.param([load(3), load(5)], flat(room=4), [3.0, 5.0], id="two side by side"),
        pytest.param([load(3), load(2)], flat(room=1), [3.0, 5.0], id="one after the other"),
        pytest.param(
            [load(2), load(2), load(2)], flat(room=2), [2.0, 2.0, 4.0], id="the third waits"
        ),
        pytest.param(
            [load(2, rows=2), load(3, rows=2), load(2)],
            flat(room=3),
            [2.0, 5.0, 2.0],
            id="looks past one that is too wide",
        ),
        pytest.param([load(2, 2)], flat(room=1), [4.0], id="a job is done with its last image"),
        pytest.param([load(2, 2)], flat(room=2), [2.0], id="whose images run side by side"),
        pytest.param([load(2, 2, 2)], flat(room=2), [3.0], id="and take turns for the room"),
        pytest.param(
            [load(2), load(2)], flat(room=2, image_s=0.5), [2.5, 3.0], id="decoded in turn"
        ),
        pytest.param([load(4), load(4)], flat(room=0), [4.0, 8.0], id="no step shared"),
        pytest.param([load(), load(2)], flat(room=2), [0.0, 2.0], id="its last steps run now"),
        pytest.param([], flat(room=2), [], id="nothing"),
    ],
)
def test_jobs_are_played_in_order(loads: list[Load], pace: Pace, expected: list[float]) -> None:
    assert finish_times_s(loads, pace) == expected


def test_what_is_far_behind_is_counted_at_full_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "MAX_PLAYED_IMAGES", 2)
    loads = [load(2), load(2), load(2), load(4)]
    # Two share their steps; of the others each takes half of its steps' time.
    assert finish_times_s(loads, flat(room=2)) == [2.0, 2.0, 3.0, 5.0]


def steady(count: int, *, work_s: float, allowed_s: float = 1.0) -> RecentArrivals:
    """One job a second, the first at 0."""
    recent = RecentArrivals()
    for at_s in range(count):
        recent.note(Arrival(at_s=float(at_s), allowed_s=allowed_s, work_s=work_s))
    return recent


def test_what_came_lately_is_expected_to_go_on_and_to_overtake() -> None:
    recent = steady(20, work_s=0.25)
    expected_s = recent.delayed_s(10.0, now_s=20.0, place_s=1000.0)
    share = forecast.EXPECTED_SHARE * 0.25
    assert expected_s == pytest.approx(10.0 / (1 - share), rel=0.02)


def test_only_what_comes_before_a_jobs_place_overtakes_it() -> None:
    recent = steady(20, work_s=0.25, allowed_s=5.0)
    assert recent.delayed_s(10.0, now_s=20.0, place_s=25.0) == 10.0
    # What comes in the first two seconds has a place before this one's.
    expected_s = 10.0 + forecast.EXPECTED_SHARE * 0.25 * 2.0
    assert recent.delayed_s(10.0, now_s=20.0, place_s=27.0) == pytest.approx(expected_s)


def test_a_burst_is_expected_once_more_at_most() -> None:
    recent = RecentArrivals()
    for _ in range(20):
        recent.note(Arrival(at_s=5.0, allowed_s=1.0, work_s=0.01))
    most_s = forecast.EXPECTED_SHARE * 20 * 0.01
    expected_s = recent.delayed_s(10.0, now_s=5.001, place_s=1000.0)
    assert 10.0 + most_s <= expected_s <= 10.0 + most_s * 1.05


def test_more_than_a_device_can_do_is_not_expected_for_longer_than_it_was_seen() -> None:
    """Else a busy spell of seconds would have a deadline in five minutes refused."""
    recent = steady(20, work_s=2.0)
    window_s = 20.0
    most_s = 1.0 + forecast.EXPECTED_SHARE * 20 * 2.0
    assert recent.delayed_s(1.0, now_s=window_s, place_s=300.0) <= most_s


def test_after_few_jobs_nothing_is_expected() -> None:
    recent = steady(LEAST_COUNT - 1, work_s=9.0)
    assert recent.delayed_s(10.0, now_s=20.0, place_s=1000.0) == 10.0


@given(st.floats(0.0, 100.0), st.floats(0.0, 50.0), st.floats(0.0, 50.0))
def test_a_delay_is_finite_and_never_negative(done_s: float, work_s: float, place_s: float) -> None:
    """Also when more comes than can be done: a job's place bounds what overtakes it."""
    recent = steady(20, work_s=work_s)
    delayed_s = recent.delayed_s(done_s, now_s=20.0, place_s=20.0 + place_s)
    most_s = done_s + forecast.EXPECTED_SHARE * work_s * max(0.0, place_s - 1.0)
    assert done_s <= delayed_s <= most_s * (1 + 1e-9)
