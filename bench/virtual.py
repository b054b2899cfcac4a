"""A device with a virtual clock: a table of step costs, and the loop that plays requests on it.

Deterministic. One turn of a system is what the device does without a break; what arrives meanwhile
is told to the system after it.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.workloads import Arrival, RequestClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Seconds a denoising step takes by size and rows, and an image's decoding by size.

    `gains`: throughput in rows, against one row, by rows; in between, step times are interpolated,
    beyond the last, in proportion. `row_s` is a step of one row at 512 px, `decode_s` a decoding
    there; both grow with the pixels.
    """

    name: str
    row_s: float
    decode_unit_s: float
    gains: tuple[tuple[int, float], ...]
    size_px: int

    def step_s(self, size_px: int, rows: int) -> float:
        """A step of so many rows."""
        known = [count for count, _ in self.gains]
        at = bisect.bisect_left(known, rows)
        if at == len(known):
            return self._unit_s(size_px) * rows / self.gains[-1][1]
        high_rows, high_gain = self.gains[at]
        if high_rows == rows:
            return self._unit_s(size_px) * rows / high_gain
        low_rows, low_gain = self.gains[at - 1]
        low_s, high_s = low_rows / low_gain, high_rows / high_gain
        share = (rows - low_rows) / (high_rows - low_rows)
        return self._unit_s(size_px) * (low_s + share * (high_s - low_s))

    def decode_s(self, size_px: int) -> float:
        """Decoding one image."""
        return self.decode_unit_s * (size_px / self.size_px) ** 2

    def alone_s(self, kind: RequestClass) -> float:
        """Isolated latency of a request of this class."""
        step_s = self.step_s(kind.size_px, kind.rows)
        return kind.step_count * step_s + self.decode_s(kind.size_px)

    def _unit_s(self, size_px: int) -> float:
        return self.row_s * (size_px / self.size_px) ** 2


#: 16x16 latents on a CPU, 512 px on a large GPU: eight rows give three times the throughput.
#: The decoding costs what 0.78 of a guided step does on a full device (SDXL: 10.5 of 13.5 TFLOP).
UNSATURATED = Device(
    name="unsaturated",
    row_s=0.020,
    decode_unit_s=0.010,
    gains=((1, 1.0), (2, 1.8), (4, 2.5), (8, 3.0), (16, 3.1)),
    size_px=512,
)
#: 32x32 latents on a CPU, 1024 px on a large GPU: a batch gains a tenth at most.
SATURATED = Device(
    name="saturated",
    row_s=0.050,
    decode_unit_s=0.075,
    gains=((1, 1.0), (2, 1.04), (4, 1.07), (8, 1.10), (16, 1.10)),
    size_px=1024,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """What a tier is played on, and what is asked of goodput (over B3's) and of tails there."""

    tier: str
    unsaturated: Device
    saturated: Device
    goodput: float
    unsaturated_tail: float
    saturated_tail: float


IMAGINED = Devices(
    tier="V",
    unsaturated=UNSATURATED,
    saturated=SATURATED,
    goodput=2.5,
    unsaturated_tail=0.20,
    saturated_tail=0.20,
)


def measured_devices(result: Path) -> Devices:
    """A GPU's, of what `bench.gpu costs` kept of SDXL: its smallest size is the unsaturated one."""
    figures = json.loads(result.read_text(encoding="utf-8"))["figures"]
    eager = [one for one in figures if re.match(r"SDXL, \d+ px, eager:", one["metric"])]
    found = sorted((_device(one["details"]) for one in eager), key=lambda one: one.size_px)
    return Devices(
        tier="VG",
        unsaturated=found[0],
        saturated=found[-1],
        goodput=2.0,
        unsaturated_tail=0.15,
        saturated_tail=0.25,
    )


def _device(kept: dict[str, Any]) -> Device:
    steps_ms = {int(rows): step_ms for rows, step_ms in kept["step_ms"].items()}
    return Device(
        name=f"GPU at {kept['size_px']} px",
        row_s=steps_ms[1] / 1e3,
        decode_unit_s=kept["decode_ms"] / 1e3,
        gains=tuple((rows, rows * steps_ms[1] / step_ms) for rows, step_ms in steps_ms.items()),
        size_px=kept["size_px"],
    )


@dataclass(frozen=True, slots=True)
class Turn:
    """What the device did without a break: how long, and which requests ended when within it."""

    duration_s: float
    finished: tuple[tuple[int, float], ...] = ()
    worked_on: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to do before `until_s`, unless something arrives."""

    until_s: float | None = None


class System(Protocol):
    """Something that serves: told what happens, asked for the next turn."""

    def arrive(self, arrival: Arrival, deadline_s: float | None) -> None:
        """Takes a request, which came at `arrival.at_s`."""
        ...

    def cancel(self, index: int) -> None:
        """The caller of a request has hung up; it may have ended already."""
        ...

    def turn(self, now_s: float) -> Turn | Idle:
        """What the device does next; drops by itself what is too late."""
        ...


@dataclass(slots=True)
class Trace:
    """What became of the requests: when each finished, and how long cancels took to take hold."""

    finished_s: dict[int, float] = field(default_factory=dict)
    #: By cancelled request: until its last work ended, in turns of the device.
    cancel_turns: list[float] = field(default_factory=list)
    end_s: float = 0.0
    #: Time that the device worked; only where it is measured.
    busy_s: float = 0.0


def play(
    system: System,
    arrivals: Sequence[Arrival],
    device: Device,
    deadlines_s: Sequence[float | None],
) -> Trace:
    """Plays arrivals to their end; `deadlines_s` are as told to the system, absolute, by index."""
    trace, now_s = Trace(), 0.0
    order = itertools.count()
    events: list[tuple[float, int, Arrival, bool]] = []
    for one in arrivals:
        heapq.heappush(events, (one.at_s, next(order), one, False))
        if one.patience is not None:
            hangs_up_s = one.at_s + one.patience * device.alone_s(one.kind)
            heapq.heappush(events, (hangs_up_s, next(order), one, True))
    last: tuple[float, Turn] | None = None
    while True:
        while events and events[0][0] <= now_s:
            at_s, _, one, is_cancel = heapq.heappop(events)
            if not is_cancel:
                system.arrive(one, deadlines_s[one.index])
            elif one.index not in trace.finished_s:
                system.cancel(one.index)
                if last is not None and one.index in last[1].worked_on:
                    trace.cancel_turns.append((now_s - at_s) / last[1].duration_s)
        match system.turn(now_s):
            case Turn() as turn:
                for index, at_s in turn.finished:
                    trace.finished_s[index] = at_s
                last = (now_s, turn)
                now_s += turn.duration_s
            case Idle(until_s):
                upcoming = [events[0][0]] if events else []
                upcoming += [until_s] if until_s is not None else []
                if not upcoming:
                    trace.end_s = now_s
                    return trace
                now_s = max(now_s, min(upcoming))
