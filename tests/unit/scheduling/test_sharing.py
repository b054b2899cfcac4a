"""Callers share a device by time, whatever they ask for."""

from __future__ import annotations

import pytest

from tests.unit.scheduling.simulated import Device

SIZES = tuple(f"size {number}" for number in range(16))


def shares(device: Device, seconds: float) -> dict[str, float]:
    """Parts of the device that callers had, of so many seconds in which all had work."""
    while device.now_s < seconds:
        assert device.step()
    return {caller: used_s / device.now_s for caller, used_s in device.used_s.items()}


@pytest.mark.parametrize("curve", ["rising", "saturated"])
def test_a_backlog_of_many_shapes_gets_no_more_than_one_of_one(curve: str) -> None:
    device = Device(curve, keys=("one", *SIZES))
    for number in range(64):
        device.ask(f"x{number}", "one", steps=20, caller="x")
        device.ask(f"y{number}", SIZES[number % 16], steps=20, caller="y")
    assert shares(device, 200.0)["x"] == pytest.approx(0.5, abs=0.04)


def test_nor_does_one_of_many_jobs_of_the_same_shape() -> None:
    device = Device("rising")
    for number in range(200):
        device.ask(f"x{number}", steps=10, caller="x")
    for number in range(20):
        device.ask(f"y{number}", steps=100, caller="y")
    assert shares(device, 400.0)["x"] == pytest.approx(0.5, abs=0.04)


def test_a_key_of_three_times_the_weight_gets_three_times_as_much() -> None:
    device = Device("saturated", keys=("one", *SIZES))
    for number in range(64):
        device.ask(f"x{number}", "one", steps=20, caller="x", weight=3.0)
        device.ask(f"y{number}", SIZES[number % 16], steps=20, caller="y")
    assert shares(device, 300.0)["x"] == pytest.approx(0.75, abs=0.04)


def test_a_caller_that_comes_later_is_not_held_up_by_a_backlog() -> None:
    device = Device("saturated")
    for number in range(100):
        device.ask(f"x{number}", steps=10, caller="x")
    while device.now_s < 100.0:
        device.step()
    device.ask("y", steps=10, caller="y")
    while "y" not in device.ended_s:
        device.step()
    # Half of the device, and a part of a typical job's time before it is its turn.
    assert device.now_s <= 100.0 + 10 / 0.5 + 10


def test_one_very_long_job_does_not_let_others_wait_for_their_share() -> None:
    """Of two backlogs of short jobs, the later one's turn does not wait for a part of that job."""
    device = Device("saturated")
    device.ask("long", steps=500, images=8, caller="other")
    for caller in ("x", "y"):
        for number in range(24):
            device.ask(f"{caller}{number}", steps=2, caller=caller)
    device.cancel("long")
    began_s = device.now_s
    while device.now_s < began_s + 20.0:
        device.step()
    assert device.used_s["y"] / (device.used_s["x"] + device.used_s["y"]) == pytest.approx(
        0.5, abs=0.1
    )
