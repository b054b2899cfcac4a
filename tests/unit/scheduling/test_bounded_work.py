"""What admission looks at does not grow with what waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from darkroom_server.scheduling import play as playing
from darkroom_server.scheduling import ranking
from darkroom_server.scheduling.entry import Entry
from darkroom_server.scheduling.play import MAX_PLAYED_BATCHES
from tests.unit.scheduling.simulated import Device

WAITING = 1000


class Counted:
    """How often something is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        self.count = 0
        call: Callable[..., Any] = getattr(owner, name)

        def counted(*args: Any, **options: Any) -> Any:
            self.count += 1
            return call(*args, **options)

        monkeypatch.setattr(owner, name, counted)


def crowd(device: Device, count: int, kind: str) -> None:
    for number in range(count):
        key = f"key {number}" if kind == "shapes" else "a"
        caller = f"caller {number}" if kind == "callers" else ""
        within_s = 1e7 + number if kind == "promised" else None
        device.batcher.costs.introduce(key, 1)
        device.ask(f"{kind} {number}", key, steps=20, caller=caller, within_s=within_s)


@pytest.mark.parametrize("kind", ["plain", "promised", "shapes", "callers"])
@pytest.mark.parametrize("within_s", [None, 1e8])
def test_admission_looks_at_no_more_jobs_when_more_wait(
    monkeypatch: pytest.MonkeyPatch, kind: str, within_s: float | None
) -> None:
    device = Device("rising")
    device.batcher.costs.introduce("a", 1)
    crowd(device, WAITING, kind)
    device.step()
    loads = Counted(monkeypatch, Entry, "load")
    batches = Counted(monkeypatch, playing, "_batch")
    device.ask("new", steps=20, within_s=within_s)
    assert loads.count <= 200
    assert batches.count <= 6 * MAX_PLAYED_BATCHES


def test_jobs_of_many_steps_and_images_are_played_in_few_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """64 jobs of 500 steps and 16 images, each cancelled at once."""
    device = Device("rising")
    batches = Counted(monkeypatch, playing, "_batch")
    for number in range(64):
        device.ask(str(number), rows=2, steps=500, images=16, within_s=1e6 + number)
    for number in range(64):
        device.cancel(str(number))
    assert batches.count <= 64 * 6 * MAX_PLAYED_BATCHES
    assert not len(device.batcher)


def test_work_is_summed_up_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device("rising")
    crowd(device, WAITING, "promised")
    device.step()
    device.ask("before", steps=20, within_s=1e8)
    counted = Counted(monkeypatch, ranking, "_latest_s")
    device.ask("new", steps=20, within_s=1e8)
    assert counted.count <= 4, "blocks in which nothing changed are not counted again"
