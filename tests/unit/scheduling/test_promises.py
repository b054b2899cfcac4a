"""The deadline that is promised is kept, whatever else comes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from darkroom_server.domain.jobs import Priority
from darkroom_server.scheduling.entry import Shape
from darkroom_server.scheduling.pace import Load, Pace
from tests.unit.scheduling.simulated import CURVES, MAX_ROWS, Device
from tests.unit.specs import job

#: A step takes at most so many times what is known of it: half of what a promise has room for.
DISTURBANCE = 1.05


@pytest.mark.parametrize("curve", CURVES)
def test_jobs_without_deadlines_do_not_break_a_promise(curve: str) -> None:
    """Seven that come later fill its batches, which then take half as long again."""
    device = Device(curve)
    assert device.ask("promised", steps=20, within_s=30.0)
    device.step()
    for number in range(7):
        device.ask(str(number), steps=40)
    device.run()
    assert device.broken() == {}
    assert len(device.ended_s) == 8


@pytest.mark.parametrize("priority", Priority)
@pytest.mark.parametrize("key", ["a", "b"])
def test_nor_does_what_is_more_urgent_or_of_another_shape(priority: Priority, key: str) -> None:
    device = Device("rising")
    assert device.ask("promised", steps=20, within_s=24.0, priority=Priority.LOW)
    for number in range(30):
        device.ask(str(number), key, steps=10, priority=priority)
        device.step()
    device.run()
    assert device.broken() == {}


def test_a_batch_grows_where_everyone_stays_on_time() -> None:
    """The rule costs nothing where there is time: all rows are used."""
    device = Device("rising")
    assert device.ask("promised", steps=20, within_s=300.0)
    for number in range(7):
        device.ask(str(number), steps=20)
    device.step()
    assert device.batches[0].row_count == MAX_ROWS


def test_two_promises_that_cannot_share_steps_are_kept_one_after_the_other() -> None:
    device = Device("rising")
    assert device.ask("tight", steps=20, within_s=22.5)
    assert device.ask("later", steps=20, within_s=60.0)
    device.run()
    assert device.broken() == {}


def test_what_an_idle_device_only_tries_holds_up_nobody() -> None:
    device = Device("flat")
    assert device.ask("tried", rows=MAX_ROWS, steps=20, within_s=10.0)
    assert "tried" not in device.promised_s
    assert device.ask("promised", rows=MAX_ROWS, steps=5, within_s=9.0)
    device.run()
    assert device.broken() == {}


def test_a_late_step_is_made_good() -> None:
    """One step that takes twice as long, of a job that fills its time but for a tenth."""
    device = Device("rising", disturbed=lambda number: 2.0 if number == 5 else 1.0)
    assert device.ask("promised", steps=30, within_s=33.5)
    for number in range(7):
        device.ask(str(number), steps=30)
    device.run()
    assert device.broken() == {}


jobs = st.fixed_dictionaries(
    {
        "key": st.sampled_from("abc"),
        "rows": st.integers(1, 2),
        "steps": st.integers(1, 30),
        "images": st.sampled_from((1, 1, 1, 2, 4)),
        "alone": st.sampled_from((False, False, False, True)),
        "priority": st.sampled_from(list(Priority)),
        "within_s": st.none() | st.floats(1.0, 150.0),
        "caller": st.sampled_from(("", "x", "y")),
        "weight": st.sampled_from((1.0, 1.0, 0.25, 4.0)),
    }
)
#: A job that comes between steps or during one, so many steps, a job that is cancelled.
events = st.lists(
    st.one_of(
        jobs,
        st.tuples(st.just("during"), jobs),
        st.integers(1, 8),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
    ),
    min_size=2,
    max_size=40,
)


def happen(device: Device, happens: list[Any]) -> None:
    """All of it, and then what is left to do. A job's name is the number of its event."""
    for number, event in enumerate(happens):
        match event:
            case dict():
                device.ask(str(number), **event)
            case ("during", coming):
                batch = device.begin()
                device.now_s += device.busy_s / 2
                device.ask(str(number), **coming)
                if batch is not None:
                    device.end()
            case int():
                for _ in range(event):
                    device.step()
            case (_, victim):
                device.cancel(str(victim))
    device.run()


#: A job by itself that an idle device tries, found late when it is its turn, and one behind it.
TRIED_ALONE = [
    {"steps": 2, "priority": Priority.LOW, "within_s": 1.0, "caller": "x", "alone": True},
    {"steps": 1, "priority": Priority.LOW},
]


@settings(max_examples=60, deadline=None)
@example("even", TRIED_ALONE, 0, 0.0, ())
@given(
    st.sampled_from(sorted(CURVES)),
    events,
    st.integers(0, 2**16),
    st.sampled_from((0.0, 0.4)),
    st.sampled_from(((), (2, 4, 8), (2, 3, 4, 6, 8))),
)
def test_what_is_promised_is_kept(
    curve: str, happens: list[Any], seed: int, decode_s: float, proved_rows: tuple[int, ...]
) -> None:
    """With others that have no deadline, all priorities, disturbed steps, and cancels.

    Images that share only what was proved may share some steps, and not those in between.
    """
    rng = random.Random(seed)
    stretch: Callable[[int], float] = lambda _: rng.uniform(0.95, DISTURBANCE)  # noqa: E731
    device = Device(curve, disturbed=stretch, decode_s=decode_s, proved_rows=proved_rows)
    happen(device, happens)
    assert device.broken() == {}
    assert not len(device.batcher)


def test_what_is_found_late_leads_nobody_who_is_not() -> None:
    """It would have been its caller's turn, and its shape's, had it not been found late then."""
    device = Device("even")
    device.ask("tried", steps=2, within_s=1.0, caller="x", alone=True)
    device.ask("other", steps=1)
    assert device.run()[0] == ["other"]


def test_a_job_whose_images_have_unequal_steps_left_is_not_given_up() -> None:
    """One image has one step left, the other eighteen: that is not eighteen steps of two."""
    pace = Pace(room=2, step_s={1: 1.0, 2: 1.94}.__getitem__, image_s=0.5)
    assert pace.least_s(Load(rows=1, evaluations=(1, 18))) == pytest.approx(1.94 + 17 + 1)
    assert pace.least_s(Load(rows=1, evaluations=(0, 0))) == 1.0


def test_steps_that_may_not_be_shared_are_not_counted_on() -> None:
    """Three rows were not proved: of three images two share a step, then the third is alone."""
    device = Device("flat", proved_rows=(2, 4))
    forecasts = [
        device.batcher.forecast(job("new", seeds=(1, 2, 3)), shape, device.now_s)
        for shape in (
            Shape(key="a", rows=1, evaluations=10, exact=exact) for exact in (False, True)
        )
    ]
    assert [one and one.done_s for one in forecasts] == [10.0, 15.0]
