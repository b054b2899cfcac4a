"""Latency, goodput and sustained load of a system on the virtual device."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.baselines import Policy, WholeRequests
from bench.ours import SharedSteps
from bench.virtual import Device, System, Trace, play
from bench.workloads import Arrival, RequestClass, Workload, at_rate

#: The first tenth warms up. The last twentieth only keeps those before it company.
WARM_SHARE, TAIL_SHARE = 0.10, 0.05

#: Between these the sustained load is sought, in parts of what is served one by one.
LOWEST_LOAD, HIGHEST_LOAD = 0.01, 5.0

Maker = Callable[[Device], System]


def ours(device: Device) -> System:
    """The service's step batcher."""
    return SharedSteps(device)


def whole(policy: Policy) -> Maker:
    """A baseline."""
    return lambda device: WholeRequests(policy, device)


@dataclass(frozen=True, slots=True)
class Objective:
    """A share of the requests that must meet their deadline.

    The deadline is `factor` times the isolated latency of the class, or absolute.
    """

    name: str
    share: float
    factor: float | None = None
    within_s: float | None = None

    def allowed_s(self, kind: RequestClass, device: Device) -> float:
        """Time from arrival to deadline."""
        if self.within_s is not None:
            return self.within_s
        assert self.factor is not None
        return self.factor * device.alone_s(kind)


#: The first is the goals'; the others are printed beside it.
OBJECTIVES = (
    Objective("90% within 5x", 0.90, factor=5.0),
    Objective("99% within 10x", 0.99, factor=10.0),
    Objective("90% within 10 s", 0.90, within_s=10.0),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One playing of a workload: what was scored and how it went."""

    arrivals: Sequence[Arrival]
    deadlines_s: Sequence[float]
    trace: Trace
    system: System | None = None

    def scored(self) -> list[Arrival]:
        """The requests that count; those whose caller hung up do not."""
        count = len(self.arrivals)
        kept = self.arrivals[int(WARM_SHARE * count) : int((1 - TAIL_SHARE) * count)]
        return [one for one in kept if one.patience is None]

    def met(self, one: Arrival) -> bool:
        """Whether it was made in time."""
        return self.trace.finished_s.get(one.index, math.inf) <= self.deadlines_s[one.index]

    def attainment(self, *, step_count: int | None = None) -> float:
        """Share that met the deadline, of all or of those with so many steps."""
        kept = [one for one in self.scored() if step_count in (None, one.step_count)]
        return sum(map(self.met, kept)) / len(kept)

    def keeps(self, objective: Objective) -> bool:
        """Whether enough met their deadline."""
        return self.attainment() >= objective.share

    def goodput_per_s(self) -> float:
        """Requests a second that met their deadline."""
        kept = self.scored()
        return sum(map(self.met, kept)) / (kept[-1].at_s - kept[0].at_s)

    def latencies_s(self, step_count: int | None = None) -> list[float]:
        """From arrival to image, sorted; infinite for what was dropped."""
        return sorted(
            self.trace.finished_s.get(one.index, math.inf) - one.at_s
            for one in self.scored()
            if step_count in (None, one.step_count)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What systems are compared on; `told` is whether they know the deadlines."""

    workload: Workload
    device: Device
    objective: Objective = OBJECTIVES[0]
    request_count: int = 600
    told: bool = True

    def run(self, maker: Maker, rate_per_s: float, seed: int) -> Run:
        """One playing at a rate."""
        size_px = self.device.size_px
        drawn = self.workload.arrivals(seed, self.request_count, size_px=size_px)
        arrivals = at_rate(drawn, rate_per_s)
        deadlines_s = [
            one.at_s + self.objective.allowed_s(one.kind, self.device) for one in arrivals
        ]
        told = [
            deadline_s if self.told and one.tells_deadline else None
            for one, deadline_s in zip(arrivals, deadlines_s, strict=True)
        ]
        system = maker(self.device)
        trace = play(system, arrivals, self.device, told)
        return Run(arrivals, deadlines_s, trace, system)

    def one_by_one_per_s(self, seed: int) -> float:
        """Rate at which a device that runs one request at a time is always busy."""
        drawn = self.workload.arrivals(seed, self.request_count, size_px=self.device.size_px)
        return 1 / statistics.fmean(self.device.alone_s(one.kind) for one in drawn)

    def sustained(self, maker: Maker, seed: int, *, halvings: int = 8) -> Run | None:
        """The run at the highest rate at which the objective's share is met, by bisection.

        None where not even the lowest rate is sustained, as with bursts that one system cannot
        absorb however rare they are: there is no goodput to compare then.
        """
        unit_per_s = self.one_by_one_per_s(seed)
        low, high = LOWEST_LOAD, HIGHEST_LOAD
        best: Run | None = None
        for _ in range(halvings):
            middle = math.sqrt(low * high)
            run = self.run(maker, middle * unit_per_s, seed)
            if run.keeps(self.objective):
                low, best = middle, run
            else:
                high = middle
        if best is None:
            lowest = self.run(maker, LOWEST_LOAD * unit_per_s, seed)
            best = lowest if lowest.keeps(self.objective) else None
        return best

    def sustained_goodput_per_s(self, maker: Maker, seed: int, *, halvings: int = 8) -> float:
        """Goodput of that run, or 0."""
        run = self.sustained(maker, seed, halvings=halvings)
        return 0.0 if run is None else run.goodput_per_s()


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of sorted values."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
