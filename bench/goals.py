"""The goals that the virtual clock can measure, as definitions and as figures.

Ratios are paired: both systems serve the same seeded requests. An interval is over seeds. Baselines
are tuned by a sweep on seeds of their own, for the very figure that they are then compared by.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bench.baselines import B0, B1, Policy, b2, b3
from bench.measured import Estimate, Measured
from bench.overload import overload
from bench.scheduler_cost import COUNTS, verb_costs
from bench.scoring import (
    OBJECTIVES,
    Maker,
    Objective,
    Run,
    Setting,
    ours,
    percentile,
    whole,
)
from bench.virtual import Device, Devices, play
from bench.workloads import (
    W_BURST,
    W_CANCEL,
    W_HOMOG,
    W_MIX,
    W_SESSION,
    W_SIZE,
    Workload,
    at_once,
)

#: Load of the tail measurement: arrivals a second times the mean isolated latency.
TAIL_LOAD = 0.7
LATER_STEPS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is played."""

    seeds: tuple[int, ...] = tuple(range(1, 11))
    request_count: int = 1000
    halvings: int = 9
    other_seeds: tuple[int, ...] = tuple(range(1, 6))
    tuning_seeds: tuple[int, ...] = (1001, 1002)
    #: What B2 and B3 may wait for a batch to fill, in parts of the mean isolated latency.
    delay_parts: tuple[float, ...] = (0.0, 0.1, 0.3, 1.0)
    cost_round_count: int = 15

    @classmethod
    def quick(cls) -> Effort:
        """Under a minute; still 510 scored requests a point, and baselines tuned less finely."""
        return cls(
            seeds=tuple(range(1, 6)),
            request_count=600,
            halvings=7,
            other_seeds=(1,),
            tuning_seeds=(1001,),
            delay_parts=(0.0, 0.3),
            cost_round_count=5,
        )


def tuned(
    policies: Iterable[Policy], effort: Effort, value: Callable[[Policy, int], float]
) -> Policy:
    """The policy with the highest mean value over the tuning seeds."""
    return max(
        policies, key=lambda one: statistics.fmean(value(one, seed) for seed in effort.tuning_seeds)
    )


def b2_grid(setting: Setting, effort: Effort) -> list[Policy]:
    """Max batch and max delay."""
    delays_s = _delays_s(setting, effort)
    return [b2(1, 0.0)] + [b2(images, delay_s) for images in (2, 4, 8) for delay_s in delays_s]


def b3_grid(setting: Setting, effort: Effort) -> list[Policy]:
    """The same, with and without the hopeless behind the rest."""
    batches = [(1, 0.0)]
    batches += [(images, s) for images in (2, 4, 8) for s in _delays_s(setting, effort)[:2]]
    return [b3(*batch, lost_last=lost_last) for batch in batches for lost_last in (False, True)]


def _delays_s(setting: Setting, effort: Effort) -> list[float]:
    mean_s = 1 / setting.one_by_one_per_s(effort.tuning_seeds[0])
    return [part * mean_s for part in effort.delay_parts]


@dataclass(frozen=True, slots=True)
class Contest:
    """Sustained runs of every system, by name and seed, in one setting."""

    policies: dict[str, Policy]
    runs: dict[str, list[Run | None]]

    def ratio(self, name: str, other: str) -> Estimate | None:
        """Goodput of one system over another's; None if either sustains no load in any seed."""
        pairs = list(zip(self.runs[name], self.runs[other], strict=True))
        ratios = [
            mine.goodput_per_s() / theirs.goodput_per_s()
            for mine, theirs in pairs
            if mine is not None and theirs is not None
        ]
        return Estimate.of(ratios) if len(ratios) == len(pairs) else None

    def details(self) -> dict[str, Any]:
        """By system: goodput, and attainment and tail by number of steps."""
        return {name: self._system(name, runs) for name, runs in self.runs.items()}

    def _system(self, name: str, found: list[Run | None]) -> dict[str, Any]:
        runs = [run for run in found if run is not None]
        if not runs:
            return {"sustained_seed_count": 0}
        steps = sorted({one.step_count for one in runs[0].arrivals})
        policy = self.policies.get(name)
        return {
            "policy": dataclasses.asdict(policy) if policy else None,
            "sustained_seed_count": len(runs),
            "goodput_per_s": round(statistics.median(r.goodput_per_s() for r in runs), 3),
            "met_by_steps": {
                count: round(statistics.median(r.attainment(step_count=count) for r in runs), 3)
                for count in steps
            },
            "p50_p99_by_steps_s": {
                count: [
                    round(statistics.median(percentile(r.latencies_s(count), p) for r in runs), 2)
                    for p in (0.5, 0.99)
                ]
                for count in steps
            },
        }


def contest(setting: Setting, seeds: tuple[int, ...], effort: Effort) -> Contest:
    """Ours and the baselines, each at the highest load it sustains."""

    def goodput(policy: Policy, seed: int) -> float:
        return setting.sustained_goodput_per_s(whole(policy), seed, halvings=effort.halvings)

    policies = {
        "B0": B0,
        "B1": B1,
        "B2": tuned(b2_grid(setting, effort), effort, goodput),
        "B3": tuned(b3_grid(setting, effort), effort, goodput),
    }
    makers: dict[str, Maker] = {"ours": ours}
    makers |= {name: whole(policy) for name, policy in policies.items()}
    runs = {
        name: [setting.sustained(maker, seed, halvings=effort.halvings) for seed in seeds]
        for name, maker in makers.items()
    }
    return Contest(policies, runs)


def goodput(effort: Effort, devices: Devices, objective: Objective) -> Iterator[Measured]:
    """G1 and the first half of G2 by an objective; only the first one has targets."""
    is_goal = objective is OBJECTIVES[0]
    for goal, device, limits in (
        ("G1", devices.unsaturated, {"B3": devices.goodput, "B2": 3.0}),
        ("G2", devices.saturated, {"B3": 1.3, "B2": None}),
    ):
        seeds = effort.seeds if is_goal else effort.other_seeds
        found = contest(_setting(W_MIX, device, effort, objective), seeds, effort)
        for other, limit in limits.items():
            yield Measured(
                goal=goal,
                tier=devices.tier,
                metric=f"goodput W-mix, {device.name}, ours / {other}, {objective.name}",
                target=limit if is_goal else None,
                at_least=True,
                estimate=found.ratio("ours", other),
                details=found.details() if other == "B3" else {},
            )


def other_workloads(effort: Effort, devices: Devices) -> Iterator[Measured]:
    """Goodput of ours over B3's on the other workloads, unsaturated; for information."""
    for workload in (W_SIZE, W_BURST, W_SESSION, W_CANCEL):
        setting = _setting(workload, devices.unsaturated, effort)
        found = contest(setting, effort.other_seeds, effort)
        yield Measured(
            goal="G1",
            tier=devices.tier,
            metric=f"goodput {workload.name}, unsaturated, ours / B3",
            target=None,
            at_least=True,
            estimate=found.ratio("ours", "B3"),
            details=found.details(),
        )


def homogeneous(effort: Effort, devices: Devices) -> Measured:
    """G2: equal requests that all wait from the start, images a second of ours over B1's."""
    device, ratios = devices.saturated, []
    for seed in effort.seeds:
        drawn = W_HOMOG.arrivals(seed, 200, size_px=device.size_px)
        never: list[float | None] = [None] * len(drawn)
        ends_s = [
            play(maker(device), at_once(drawn), device, never).end_s for maker in (ours, whole(B1))
        ]
        ratios.append(ends_s[1] / ends_s[0])
    return Measured(
        goal="G2",
        tier=devices.tier,
        metric="throughput W-homog, saturated, ours / B1",
        target=0.97,
        at_least=True,
        estimate=Estimate.of(ratios),
    )


def tails(effort: Effort, devices: Devices) -> list[Measured]:
    """G3: no deadlines are told; 4-step tail and 50-step tail of ours over tuned B2's."""
    measured = []
    for device, most in (
        (devices.unsaturated, devices.unsaturated_tail),
        (devices.saturated, devices.saturated_tail),
    ):
        setting = dataclasses.replace(_setting(W_MIX, device, effort), told=False)

        def moderate(maker: Maker, seed: int, setting: Setting = setting) -> Run:
            return setting.run(maker, TAIL_LOAD * setting.one_by_one_per_s(seed), seed)

        policy = tuned(
            b2_grid(setting, effort),
            effort,
            lambda one, seed, moderate=moderate: -_tail_s(moderate(whole(one), seed), 4),
        )
        runs = [(moderate(ours, seed), moderate(whole(policy), seed)) for seed in effort.seeds]
        for step_count, limit in ((4, most), (LATER_STEPS, 1.25)):
            pairs = [
                (_tail_s(mine, step_count), _tail_s(theirs, step_count)) for mine, theirs in runs
            ]
            measured.append(
                Measured(
                    goal="G3",
                    tier=devices.tier,
                    metric=f"p99 of {step_count} steps at {TAIL_LOAD} load, {device.name}, "
                    "ours / B2",
                    target=limit,
                    at_least=False,
                    estimate=Estimate.of([mine / theirs for mine, theirs in pairs]),
                    details={
                        "policy": dataclasses.asdict(policy),
                        "ours_s": [round(mine, 3) for mine, _ in pairs],
                        "B2_s": [round(theirs, 3) for _, theirs in pairs],
                    },
                )
            )
    return measured


def _tail_s(run: Run, step_count: int) -> float:
    return percentile(run.latencies_s(step_count), 0.99)


def cancels(effort: Effort, devices: Devices) -> Measured:
    """G7: from hanging up until the device works on it no more, in turns of the device."""
    setting = _setting(W_CANCEL, devices.unsaturated, effort)
    tails_of_seeds = []
    for seed in effort.seeds:
        run = setting.run(ours, setting.one_by_one_per_s(seed), seed)
        tails_of_seeds.append(percentile(sorted(run.trace.cancel_turns), 0.99))
    return Measured(
        goal="G7",
        tier=devices.tier,
        metric="cancel to slot freed, p99, in steps",
        target=2.0,
        at_least=False,
        estimate=Estimate.of(tails_of_seeds),
    )


def scheduler_cost(effort: Effort) -> list[Measured]:
    """G9: the scheduler's time for each verb with 10,000 waiting over that with 10."""
    measured = []
    for found in verb_costs(effort.cost_round_count):
        is_step = found.verb in ("step", "whole run")
        measured.append(
            Measured(
                goal="G9",
                tier="V",
                metric=f"scheduler cost of a verb: {found.verb}, 10,000 queued / 10 queued",
                target=1.5 if is_step else 3.0,
                at_least=False,
                estimate=Estimate.of(found.ratios),
                details={"median_us": found.median_us},
            )
        )
        if found.verb == "admission":
            measured.append(
                Measured(
                    goal="G9",
                    tier="V",
                    metric="admission with 10,000 queued, ms",
                    target=1.0,
                    at_least=False,
                    estimate=Estimate.of([found.median_us[COUNTS[-1]] / 1e3]),
                )
            )
    return measured


def measure_virtual(
    effort: Effort, devices: Devices, *, with_other_workloads: bool, goals: Collection[str] = ()
) -> Iterator[Measured]:
    """All that can be measured on virtual devices, what has a target first; or some goals alone."""

    def asked(*names: str) -> bool:
        return not goals or any(name in goals for name in names)

    if asked("G9"):
        yield from scheduler_cost(effort)
    if asked("G1", "G2"):
        yield from goodput(effort, devices, OBJECTIVES[0])
    if asked("G2"):
        yield homogeneous(effort, devices)
    if asked("G3"):
        yield from tails(effort, devices)
    if asked("G7"):
        yield cancels(effort, devices)
    if asked("G5"):
        yield from overload(
            devices.unsaturated,
            devices.tier,
            seeds=effort.other_seeds,
            request_count=effort.request_count,
            halvings=effort.halvings,
        )
    if asked("G1", "G2"):
        for objective in OBJECTIVES[1:]:
            yield from goodput(effort, devices, objective)
    if asked("G1") and with_other_workloads:
        yield from other_workloads(effort, devices)


def _setting(
    workload: Workload,
    device: Device,
    effort: Effort,
    objective: Objective = OBJECTIVES[0],
) -> Setting:
    return Setting(
        workload=workload,
        device=device,
        objective=objective,
        request_count=effort.request_count,
    )
