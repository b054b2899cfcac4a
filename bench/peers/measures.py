"""What is measured of every system, in turns on the same seeded requests."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

from bench.peers.driver import GIVE_UP_S, Played, first_pictures_s, play
from bench.peers.figures import Row, in_turn
from bench.peers.systems import System
from bench.scoring import OBJECTIVES, Objective, Run, percentile
from bench.virtual import Device
from bench.workloads import (
    SIZES_PX,
    W_CANCEL,
    W_HOMOG,
    W_MIX,
    W_SIZE,
    Arrival,
    Workload,
    at_once,
    at_rate,
)

#: Rates that are tried, from the lowest, in parts of what is served one by one; a system that
#: misses the objective at two in a row has no higher one.
LOWEST_RATE, MISSES_TO_END = 0.3, 2
MODERATE_LOAD = 0.7
#: Sizes of W-size on the embedded models, for those of the full-size ones.
SMALL_SIZES_PX = dict(zip(SIZES_PX, (64, 96, 128, 192), strict=True))


class Bare(Protocol):
    """The stock pipeline in the driver's process."""

    def run(self, batch: Sequence[Arrival]) -> list[np.ndarray[Any, Any]]:
        """Images of equal requests."""
        ...

    def timed_s(self, batch: Sequence[Arrival]) -> float:
        """Seconds that it takes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plays:
    """How much is played."""

    seeds: tuple[int, ...] = (1, 2, 3)
    request_count: int = 510
    rate_factor: float = 1.25
    rate_count: int = 12
    pair_count: int = 16
    round_count: int = 6
    #: Requests that all wait when throughput is measured, at the small size and the large.
    waiting_counts: tuple[int, int] = (48, 8)
    equal_count: int = 32
    hang_up_count: int = 16
    objectives: tuple[Objective, ...] = OBJECTIVES[:2]


QUICK = Plays(
    seeds=(1,),
    request_count=60,
    rate_factor=1.5,
    rate_count=7,
    pair_count=6,
    round_count=3,
    waiting_counts=(16, 4),
    equal_count=12,
    hang_up_count=8,
    objectives=OBJECTIVES[:1],
)


#: The whole of it in minutes on a machine that is busy: shows that it runs, and little more.
BRIEF = dataclasses.replace(
    QUICK,
    request_count=20,
    rate_factor=2.0,
    rate_count=4,
    pair_count=4,
    round_count=2,
    waiting_counts=(8, 2),
    equal_count=6,
    hang_up_count=4,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Systems that run, the bare pipeline, and what a size costs it on this machine."""

    systems: dict[str, System]
    bare: Bare
    device: Device
    plays: Plays

    def one_by_one_per_s(self, workload: Workload, seed: int) -> float:
        """Rate at which a pipeline that runs one request at a time is always busy."""
        drawn = self.drawn(workload, seed)
        return 1 / statistics.fmean(self.device.alone_s(one.kind) for one in drawn)

    def drawn(self, workload: Workload, seed: int) -> list[Arrival]:
        """A workload's requests, at a mean rate of one a second."""
        drawn = workload.arrivals(seed, self.plays.request_count, size_px=self.device.size_px)
        if workload.size_count == 1:
            return drawn
        return [dataclasses.replace(one, size_px=SMALL_SIZES_PX[one.size_px]) for one in drawn]

    def run(
        self, name: str, workload: Workload, seed: int, load: float, objective: Objective | None
    ) -> tuple[Run, Played]:
        """One playing by a system; `objective` None: nobody is told a deadline."""
        rate = load * self.one_by_one_per_s(workload, seed)
        arrivals = at_rate(self.drawn(workload, seed), rate)
        limits = objective or OBJECTIVES[0]
        limits_s = [one.at_s + limits.allowed_s(one.kind, self.device) for one in arrivals]
        told: list[float | None] = [*limits_s] if objective else [None] * len(arrivals)
        system = self.systems[name]
        played = play(system.calling, arrivals, told, self.device)
        system.tree.quiet_cpu_s()  # what was hung up on is gone before the next begins
        return Run(arrivals, limits_s, played.trace), played


def equal_pictures(stage: Stage) -> Iterator[Row]:
    """Shares of pictures bit-equal to the pipeline's: asked for one by one, and at once."""
    arrivals = at_once(stage.drawn(W_MIX, 1)[: stage.plays.equal_count])
    wanted = [stage.bare.run([one])[0] for one in arrivals]
    for how in ("alone", "together"):
        values = {}
        for name, system in stage.systems.items():
            if how == "together":
                played = play(system.calling, arrivals, [None] * len(arrivals), stage.device)
                made = played.pictures
            else:
                made = asyncio.run(_one_by_one(system, arrivals))
            equal = [
                one.index in made and np.array_equal(_pixels(made[one.index]), pixels)
                for one, pixels in zip(arrivals, wanted, strict=True)
            ]
            values[name] = [statistics.fmean(equal)]
        yield Row(
            measure=f"pictures equal to the pipeline's, {how}, of {len(arrivals)}",
            unit="",
            more_is_better=True,
            values=values,
        )


async def _one_by_one(system: System, arrivals: Sequence[Arrival]) -> dict[int, bytes]:
    async with system.calling() as caller:
        return {one.index: await caller.ask(one, GIVE_UP_S) for one in arrivals}


def _pixels(content: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(content)))


def idle_latency(stage: Stage) -> Row:
    """One request after another, of 20 steps with guidance, over the pipeline's time for it."""
    arrivals = W_HOMOG.arrivals(1, stage.plays.pair_count + 1, size_px=stage.device.size_px)
    names = list(stage.systems)
    values: dict[str, list[float]] = {name: [] for name in names}
    for number, one in enumerate(arrivals):
        seconds = {}
        for name in in_turn([*names, "bare"], number):
            if name == "bare":
                seconds[name] = stage.bare.timed_s([one])
            else:
                seconds[name] = asyncio.run(_asked_s(stage.systems[name], one))
        if number:  # the first warms all
            for name in names:
                values[name].append(seconds[name] / seconds["bare"])
    return Row(
        measure=f"idle latency at {stage.device.size_px} px / bare diffusers",
        unit="",
        more_is_better=False,
        values=values,
    )


async def _asked_s(system: System, one: Arrival) -> float:
    """Connecting is not counted."""
    async with system.calling() as caller:
        await caller.ask(dataclasses.replace(one, step_count=1), GIVE_UP_S)
        started_s = time.perf_counter()
        await caller.ask(one, GIVE_UP_S)
        return time.perf_counter() - started_s


def throughput(stage: Stage, count: int) -> Row:
    """Equal requests that all wait, images a second, over those of the pipeline's best batch."""
    waiting = at_once(W_HOMOG.arrivals(1, count, size_px=stage.device.size_px))

    def bare_s(images: int) -> float:
        batches = [waiting[at : at + images] for at in range(0, count, images)]
        return sum(stage.bare.timed_s(batch) for batch in batches)

    best = min((images for images in (1, 2, 4, 8, 16) if images <= count), key=bare_s)
    names = list(stage.systems)
    values: dict[str, list[float]] = {name: [] for name in names}
    for number in range(stage.plays.round_count):
        seconds = {}
        for name in in_turn([*names, "bare"], number):
            if name == "bare":
                seconds[name] = bare_s(best)
                continue
            played = play(stage.systems[name].calling, waiting, [None] * count, stage.device)
            assert len(played.pictures) == count, (name, played.failed)
            seconds[name] = played.trace.end_s
        for name in names:
            values[name].append(seconds["bare"] / seconds[name])
    return Row(
        measure=f"throughput W-homog at {stage.device.size_px} px / bare diffusers' best batch",
        unit="",
        more_is_better=True,
        values=values,
        details={"best_batch": best},
    )


def goodput(stage: Stage, objective: Objective) -> Row:
    """Requests a second in time, of the highest rate at which the objective's share is in time."""
    names = list(stage.systems)
    values: dict[str, list[float]] = {name: [] for name in names}
    shares: dict[str, list[list[float]]] = {name: [] for name in names}
    for seed in stage.plays.seeds:
        best, missed = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
        for rung in range(stage.plays.rate_count):
            load = LOWEST_RATE * stage.plays.rate_factor**rung
            for name in in_turn(names, rung + seed):
                if missed[name] == MISSES_TO_END:
                    continue
                run, _ = stage.run(name, W_MIX, seed, load, objective)
                shares[name].append([seed, round(load, 3), round(run.attainment(), 3)])
                if run.keeps(objective):
                    best[name], missed[name] = run.goodput_per_s(), 0
                else:
                    missed[name] += 1
        for name in names:
            values[name].append(best[name])
    return Row(
        measure=f"goodput W-mix at {stage.device.size_px} px, {objective.name}",
        unit="/s",
        more_is_better=True,
        values=values,
        details={"seed_load_share": shares},
    )


def moderate_load(stage: Stage) -> Iterator[Row]:
    """Latencies by class where nobody is told a deadline, and when the first picture is seen."""
    at = f"at {MODERATE_LOAD} load, {stage.device.size_px} px"
    names = list(stage.systems)
    found: dict[tuple[int, float], dict[str, list[float]]] = {}
    first_s: dict[str, list[float]] = {name: [] for name in names}
    for seed in stage.plays.seeds:
        for name in in_turn(names, seed):
            run, _ = stage.run(name, W_MIX, seed, MODERATE_LOAD, None)
            for steps in sorted({one.step_count for one in run.arrivals}):
                for share in (0.5, 0.99):
                    by_name = found.setdefault((steps, share), {one: [] for one in names})
                    by_name[name].append(percentile(run.latencies_s(steps), share))
            seen_s = first_pictures_s(stage.systems[name].calling, run.arrivals)
            first_s[name].append(statistics.median(seen_s))
    for (steps, share), values in found.items():
        yield Row(
            measure=f"p{share * 100:.0f} of {steps} steps {at}",
            unit="s",
            more_is_better=False,
            values=values,
        )
    yield Row(measure=f"time to first preview {at}", unit="s", more_is_better=False, values=first_s)


def others(stage: Stage) -> Iterator[Row]:
    """W-size and W-cancel at a moderate load: the share in time of those who stay."""
    for workload in (W_SIZE, W_CANCEL):
        values: dict[str, list[float]] = {name: [] for name in stage.systems}
        for seed in stage.plays.seeds:
            for name in in_turn(list(values), seed):
                run, _ = stage.run(name, workload, seed, MODERATE_LOAD, OBJECTIVES[0])
                values[name].append(run.attainment())
        yield Row(
            measure=f"share within 5x, {workload.name} at {MODERATE_LOAD} load",
            unit="",
            more_is_better=True,
            values=values,
        )


def wasted(stage: Stage) -> Row:
    """Processor time spent after all callers have hung up, over that of the same callers staying.

    Requests of 50 steps are all there at once, and are hung up on a tenth into them.
    """
    drawn = W_HOMOG.arrivals(1, stage.plays.hang_up_count, size_px=stage.device.size_px)
    staying = at_once([dataclasses.replace(one, step_count=50) for one in drawn])
    alone_s = stage.device.alone_s(staying[0].kind)
    leaving = [dataclasses.replace(one, patience=0.1 * len(staying)) for one in staying]
    values: dict[str, list[float]] = {}
    for name, system in stage.systems.items():
        before_s = system.tree.quiet_cpu_s()
        play(system.calling, staying, [None] * len(staying), stage.device)
        whole_s = system.tree.quiet_cpu_s() - before_s
        play(system.calling, leaving, [None] * len(leaving), stage.device)
        left_s = system.tree.cpu_s()
        values[name] = [(system.tree.quiet_cpu_s() - left_s) / whole_s]
    return Row(
        measure="processor time spent on cancelled requests / on the others",
        unit="",
        more_is_better=False,
        values=values,
        details={"hung_up_after_s": 0.1 * len(staying) * alone_s},
    )
