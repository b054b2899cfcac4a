"""`python -m bench.exact_goodput`: goodput at EXACT over TOLERANCE, by a worker's loop.

Time is the processor time of the thread that runs the loop, and while nothing is to be done it
jumps to the next arrival: what else the machine does stretches nothing. One embedded model, one
thread, the same requests (W-mix) at both levels in turn, at several loads. What the server and its
callers do besides is left out: it is the same at both levels.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog
from rich.console import Console
from rich.table import Table

from bench.exact_cost import load
from bench.measured import Estimate
from bench.workloads import W_HOMOG, W_MIX, Arrival, at_once, at_rate
from darkroom_server.backends.base import StepModel
from darkroom_server.domain.jobs import ImageSpec, Job, Reproducibility
from darkroom_server.domain.models import Dtype
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.scheduling.shared_rows import SharedRows
from darkroom_server.scheduling.step_costs import StepCosts
from darkroom_server.worker.messages import SubmitJob
from darkroom_server.worker.proving import Prover
from darkroom_server.worker.step_runner import step_loop
from darkroom_server.worker.trial import trial_spec

ROOT = Path(__file__).parents[1]
AnyModel = StepModel[Any, Any, Any, Any]
LEVELS = (Reproducibility.EXACT, Reproducibility.TOLERANCE)
#: A request is answered in time within so many times what it takes alone.
FACTOR = 5.0
#: Requests that all wait, from which step costs are learnt before anything is counted.
WARM_COUNT = 16


class Clock:
    """Processor time of this thread, with the idle times left out."""

    def __init__(self) -> None:
        self._skipped_s = -time.thread_time()

    def __call__(self) -> float:
        """Now."""
        return self._skipped_s + time.thread_time()

    def skip_to(self, at_s: float) -> None:
        """Nothing happens until then."""
        self._skipped_s += max(0.0, at_s - self())


@dataclasses.dataclass(slots=True)
class System:
    """One level: what may share a step, and what steps cost, as learnt so far."""

    model: AnyModel
    level: Reproducibility
    base: ImageSpec
    prover: Prover[Any, Any, Any, Any]
    costs: StepCosts
    rows: list[int] = dataclasses.field(default_factory=list)

    def spec(self, one: Arrival) -> ImageSpec:
        """The request of an arrival; its seed is its index."""
        return dataclasses.replace(
            self.base,
            seeds=(one.index,),
            step_count=one.step_count,
            guidance_scale=one.guidance_scale,
            scheduler=one.scheduler,
            reproducibility=self.level,
        )

    def play(
        self, arrivals: Sequence[Arrival], limits_s: Sequence[float | None]
    ) -> dict[int, float]:
        """When each request was made; those that were refused or late are left out."""
        clock, made_s = Clock(), dict[int, float]()
        decode, denoise = self.model.decode, self.model.denoise

        def decoded(trajectory: Any) -> Any:
            pixels = decode(trajectory)
            made_s[trajectory.spec.seeds[0]] = clock()
            return pixels

        def denoised(inputs: Any) -> Any:
            outputs = denoise(inputs)
            self.rows.append(len(outputs))
            return outputs

        self.model.decode, self.model.denoise = decoded, denoised  # type: ignore[method-assign]
        loop = step_loop(
            self.model,
            lambda report: None,  # noqa: ARG005
            max_batch_size=self.costs.max_rows,
            prover=self.prover,
            costs=self.costs,
            clock=clock,
        )
        waiting = list(arrivals)
        try:
            while True:
                while waiting and waiting[0].at_s <= clock():
                    one = waiting.pop(0)
                    job = Job(
                        job_id=str(one.index),
                        spec=self.spec(one),
                        deadline_s=limits_s[one.index],
                    )
                    loop.post(SubmitJob(job))
                if loop.tick() > clock():
                    if not waiting:
                        break
                    clock.skip_to(waiting[0].at_s)
            loop.run_to_end()
        finally:
            self.model.decode, self.model.denoise = decode, denoise  # type: ignore[method-assign]
        return made_s


def systems(model_name: str, size_px: int) -> list[System]:
    """Both levels on one model, with everything proved and what steps cost learnt."""
    scanned = ModelRepository(ROOT / "model_repo").scan().models
    version = next(one for one in scanned if one.versions[0].model.name == model_name).versions[0]
    model, info = load(version, Dtype.FP32, 1)
    base = trial_spec(info, size_px, size_px, guidance_scale=1.0)
    shared = SharedRows()
    prover = Prover(model, shared, max_rows=info.max_batch_size, tasks=frozenset({base.task}))
    prover.ask(dataclasses.replace(base, reproducibility=Reproducibility.EXACT))
    prover.finish()
    found = []
    for level in LEVELS:
        costs = StepCosts(max_rows=info.max_batch_size)
        one = System(model, level, base, prover, costs)
        for seed in (1, 2):
            one.play(at_once(W_MIX.arrivals(seed, WARM_COUNT)), [None] * WARM_COUNT)
        found.append(one)
    return found


def alone_s(system: System) -> dict[tuple[int, int], float]:
    """Seconds of a request by itself, by steps and rows: the least of three."""
    taken_s: dict[tuple[int, int], float] = {}
    for one in W_MIX.arrivals(3, 40):
        kind = (one.step_count, one.rows)
        if kind not in taken_s:
            tries = [max(system.play(at_once([_first(one)]), [None]).values()) for _ in range(3)]
            taken_s[kind] = min(tries)
    return taken_s


def _first(one: Arrival) -> Arrival:
    return dataclasses.replace(one, index=0, at_s=0.0)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Goodput of both levels at a load, one ratio a seed."""

    load: float
    ratio: Estimate
    met: list[list[float]]
    mean_rows: list[float]


def compare(both: list[System], load_: float, seeds: Sequence[int], request_count: int) -> Compared:
    """`load_`: arrivals a second times what a request takes alone on the average."""
    known_s = alone_s(both[1])
    ratios, shares = [], []
    for one in both:
        one.rows.clear()
    for seed in seeds:
        drawn = W_MIX.arrivals(seed, request_count)
        takes_s = [known_s[one.step_count, one.rows] for one in drawn]
        arrivals = at_rate(drawn, load_ * len(takes_s) / sum(takes_s))
        limits_s = [
            one.at_s + FACTOR * took_s for one, took_s in zip(arrivals, takes_s, strict=True)
        ]
        met = {}
        for system in both if seed % 2 else reversed(both):
            made_s = system.play(arrivals, list[float | None](limits_s))
            met[system.level] = sum(made_s[index] <= limits_s[index] for index in made_s)
        ratios.append(met[LEVELS[0]] / met[LEVELS[1]])
        shares.append([round(met[level] / request_count, 3) for level in LEVELS])
    mean_rows = [round(sum(one.rows) / len(one.rows), 2) for one in both]
    return Compared(load=load_, ratio=Estimate.of(ratios), met=shares, mean_rows=mean_rows)


def homogeneous(both: list[System], request_count: int, rounds: int) -> Estimate:
    """Equal requests that all wait: what EXACT takes over what TOLERANCE does, by throughput."""
    waiting = at_once(W_HOMOG.arrivals(1, request_count))
    ratios = []
    for number in range(rounds):
        took_s = {}
        for system in both if number % 2 else reversed(both):
            took_s[system.level] = max(system.play(waiting, [None] * request_count).values())
        ratios.append(took_s[LEVELS[1]] / took_s[LEVELS[0]])
    return Estimate.of(ratios)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="bench.exact_goodput", description=__doc__)
    parser.add_argument("--model", default="tiny-sdxl")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--load", action="append", type=float)
    parser.add_argument("--requests", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    both = systems(args.model, args.size)
    table = Table("W-mix, load", "exact / tolerance", "met", "rows a step")
    for load_ in args.load or [0.7, 1.5, 3.0]:
        one = compare(both, load_, range(1, args.seeds + 1), args.requests)
        print(one, flush=True)
        table.add_row(
            f"{load_:g}",
            f"{one.ratio.median:.3f} ({one.ratio.low:.3f} to {one.ratio.high:.3f})",
            str(one.met),
            str(one.mean_rows),
        )
    Console(width=100).print(table)
    print("W-homog, throughput, exact / tolerance:", homogeneous(both, 16, args.seeds))


if __name__ == "__main__":
    main()
