"""Whether a job is taken in, and what it may count on beside those of other priorities."""

from __future__ import annotations

from typing import Any

import pytest

from darkroom_server.domain.errors import DarkroomError, DeadlineExceeded, QueueFull
from darkroom_server.domain.jobs import Priority
from darkroom_server.scheduling.admission import Admission, Forecast, decide
from darkroom_server.scheduling.forecast import (
    EXPECTED_SHARE,
    MOST_LEFT_SHARE,
    Arrival,
    RecentArrivals,
    RecentDemand,
)
from tests.unit.scheduling.simulated import Device
from tests.unit.specs import job

NOW_S, LEFT_S = 100.0, 10.0


@pytest.mark.parametrize(
    ("kept_s", "left_margin", "taken"),
    [
        pytest.param(5.0, 1.0, Admission(reserve_s=0.5), id="a-tenth-is-kept-for-disturbances"),
        pytest.param(9.0, 1.0, Admission(reserve_s=0.9), id="just-in-time"),
        pytest.param(9.5, 1.0, DeadlineExceeded, id="no-room-for-disturbances"),
        pytest.param(5.0, 1.5, Admission(reserve_s=0.5), id="what-higher-ones-ask-for-fits-in"),
        pytest.param(7.0, 1.5, DeadlineExceeded, id="what-higher-ones-ask-for-does-not"),
    ],
)
def test_a_promise_leaves_room(
    kept_s: float, left_margin: float, taken: Admission | type[DarkroomError]
) -> None:
    forecast = Forecast(done_s=1.0, kept_s=kept_s, breaks_until_s=None, left_margin=left_margin)
    made = decide(job(deadline_s=NOW_S + LEFT_S), forecast, NOW_S, is_idle=False)
    if isinstance(taken, Admission):
        assert isinstance(made, Admission)
        assert made.reserve_s == pytest.approx(taken.reserve_s)
    else:
        assert isinstance(made, taken)


@pytest.mark.parametrize(
    ("changes", "options", "taken"),
    [
        pytest.param({}, {}, QueueFull, id="not-at-the-cost-of-a-promise"),
        pytest.param({}, {"is_accepted": True}, Admission, id="unless-its-caller-was-told"),
        pytest.param({"done_s": 11.0}, {}, DeadlineExceeded, id="too-late-whatever-else"),
        pytest.param(
            {"kept_s": 11.0, "breaks_until_s": None}, {"is_idle": True}, Admission, id="tried"
        ),
    ],
)
def test_what_is_taken_in_without_a_promise(
    changes: dict[str, Any], options: dict[str, bool], taken: type
) -> None:
    values: dict[str, Any] = {"done_s": 1.0, "kept_s": 2.0, "breaks_until_s": NOW_S + 5}
    made = decide(
        job(deadline_s=NOW_S + LEFT_S),
        Forecast(**values | changes),
        NOW_S,
        **{"is_idle": False, **options},
    )
    assert isinstance(made, taken)


@pytest.mark.parametrize(
    ("priority", "margin"),
    [
        pytest.param(Priority.HIGH, 1.0, id="nothing-is-higher"),
        pytest.param(Priority.NORMAL, 1 / (1 - EXPECTED_SHARE * 0.1), id="what-high-ones-ask"),
        pytest.param(Priority.LOW, 1 / (1 - EXPECTED_SHARE * 0.3), id="and-normal-ones"),
    ],
)
def test_as_much_is_left_to_higher_priorities_as_they_asked_for(
    priority: Priority, margin: float
) -> None:
    demand = RecentDemand()
    for asked, work_s in ((Priority.HIGH, 10.0), (Priority.NORMAL, 20.0), (Priority.LOW, 99.0)):
        demand.note(0.0, asked, work_s)
    found = demand.margin(priority, now_s=100.0, within_s=50.0)
    assert found == pytest.approx(margin)


def test_a_burst_of_seconds_leaves_no_more_than_half_and_long_deadlines_nearly_all() -> None:
    demand = RecentDemand()
    demand.note(0.0, Priority.HIGH, 30.0)
    short, long = (
        demand.margin(Priority.NORMAL, now_s=1.0, within_s=within_s) for within_s in (10.0, 3600.0)
    )
    assert short == 1 / (1 - MOST_LEFT_SHARE)
    assert long == pytest.approx(1.01, abs=0.001)


def test_what_was_asked_for_long_ago_is_forgotten() -> None:
    demand = RecentDemand()
    demand.note(0.0, Priority.HIGH, 30.0)
    for number in range(64):
        demand.note(float(number), Priority.NORMAL, 1.0)
    assert demand.margin(Priority.NORMAL, now_s=64.0, within_s=10.0) == 1.0


@pytest.mark.parametrize("priority", Priority)
def test_only_what_is_not_lower_is_expected_to_overtake(priority: Priority) -> None:
    recent = RecentArrivals()
    for number in range(20):
        recent.note(
            Arrival(at_s=float(number), allowed_s=1.0, work_s=0.5, priority=Priority.NORMAL)
        )
    told = {
        place_s: recent.delayed_s(4.0, now_s=20.0, place_s=place_s, priority=priority)
        for place_s in (20.5, 30.0)
    }
    match priority:
        case Priority.HIGH:
            assert set(told.values()) == {4.0}
        case Priority.NORMAL:
            assert told[20.5] == 4.0 < told[30.0]
        case Priority.LOW:
            assert told[20.5] == told[30.0] > 4.0


def lower_ones(device: Device) -> int:
    """Promised as many as there is room for, of a low priority; how many."""
    return sum(
        device.ask(f"low {number}", rows=8, steps=4, priority=Priority.LOW, within_s=100.0)
        for number in range(40)
    )


def test_promises_to_lower_ones_leave_what_higher_ones_asked_for() -> None:
    """The second time: the first, nothing was known of them, and the promises were given."""
    device = Device("rising")
    full_count = lower_ones(device)
    urgent: dict[str, Any] = {"rows": 8, "steps": 4, "priority": Priority.HIGH, "within_s": 90.0}
    assert not device.ask("refused", **urgent)
    device.run()
    assert device.ask("again", **urgent)
    assert 0 < lower_ones(device) < full_count
    assert device.ask("high", **urgent), "what was left to it"
    device.run()
    assert device.broken() == {}


def test_what_is_not_promised_gives_way_whatever_its_priority() -> None:
    device = Device("rising")
    for number in range(20):
        device.ask(f"high {number}", rows=8, steps=4, priority=Priority.HIGH)
    assert device.ask("low", rows=8, steps=4, priority=Priority.LOW, within_s=1000.0)
    device.run()
    assert device.broken() == {}
