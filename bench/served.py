"""The real server against the stock pipeline, on this machine: what tiers C and G are made of.

Systems take turns, A B A B, and never run at once. Deadlines and the baselines' tuning come from a
virtual device calibrated with the pipeline, on the machine, just before.
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
import time
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import numpy as np
from PIL import Image

from bench.goals import Effort, contest
from bench.load import play_server, request
from bench.measured import Estimate, Measured
from bench.pipelines import PROMPT, play_pipeline
from bench.previews import first_pictures_s, time_to_preview
from bench.scoring import Maker, Run, Setting, ours, percentile, whole
from bench.serving import Server
from bench.setup import Bench
from bench.virtual import Device
from bench.workloads import W_HOMOG, W_MIX, Arrival, at_once, at_rate
from darkroom_client import AsyncClient, Progress

#: At 0.7 load a baseline works at most this share of the time, or the calibration was off.
MAX_BUSY_SHARE = 0.8
#: How a sustained rate is sought: by steps of this factor, so many at most.
RATE_STEP, MAX_RATE_STEPS = 0.9, 8


def bit_equality(bench: Bench, server: Server) -> Measured:
    """G10: mixed requests at once at EXACT, each against the stock pipeline alone."""
    count = bench.plays.equality_count
    arrivals = at_once(W_MIX.arrivals(1, count, size_px=bench.unsaturated_px))
    served = asyncio.run(_pictures(server.address, arrivals))
    equal = [
        float(np.array_equal(pixels, bench.pipeline.run([one])[0]))
        for one, pixels in zip(arrivals, served, strict=True)
    ]
    share = sum(equal) / count
    return Measured(
        goal="G10",
        tier=bench.tier,
        metric=f"images at EXACT bit-equal to bare diffusers, of {count}",
        target=1.0,
        at_least=True,
        estimate=Estimate(share, share, share, 1),
    )


async def _pictures(address: str, arrivals: list[Arrival]) -> list[np.ndarray[Any, Any]]:
    async with AsyncClient(address) as client:
        files = await asyncio.gather(
            *(request(client, one, reproducibility="exact") for one in arrivals)
        )
    return [np.asarray(Image.open(io.BytesIO(file))) for file in files]


def best_batch(bench: Bench, server: Server, size_px: int) -> Measured:
    """G4: equal requests that all wait, images a second, over the pipeline's best batch."""
    count = bench.waiting_count(size_px)
    waiting = at_once(W_HOMOG.arrivals(1, count, size_px=size_px))

    def bare_s(images: int) -> float:
        batches = [waiting[at : at + images] for at in range(0, count, images)]
        return sum(bench.pipeline.timed_s(batch) for batch in batches)

    best = min((images for images in (1, 2, 4, 8, 16) if images <= count), key=bare_s)
    ratios = []
    for _ in range(bench.plays.round_count):
        trace = play_server(server.address, waiting, [None] * count)
        assert len(trace.finished_s) == count
        ratios.append(bare_s(best) / trace.end_s)
    return Measured(
        goal="G4",
        tier=bench.tier,
        metric=f"throughput at {size_px} px, ours / bare diffusers' best batch ({best} images)",
        target=bench.targets.throughput,
        at_least=True,
        estimate=Estimate.of(ratios),
    )


def cancel(bench: Bench, server: Server) -> Measured:
    """G7: steps that a job still took after the caller had seen one and hung up."""
    steps = []
    for _ in range(bench.plays.hang_up_count):
        logged = len(server.log)
        seen = asyncio.run(_hang_up(server.address))
        stopped = server.until("job stopped", after=logged)
        steps.append(float(stopped["completed_step_count"] - seen))
    tail = percentile(sorted(steps), 0.99)
    return Measured(
        goal="G7",
        tier=bench.tier,
        metric="cancel to slot freed, p99, in steps",
        target=bench.targets.cancel_steps,
        at_least=False,
        estimate=Estimate(tail, min(steps), max(steps), len(steps)),
    )


async def _hang_up(address: str, after_steps: int = 5) -> int:
    """Hangs up after so many steps; the steps that the caller knew of."""
    async with (
        AsyncClient(address) as client,
        aclosing(client.generate_events(PROMPT, steps=100, seed=1)) as events,
    ):
        async for event in events:
            if isinstance(event, Progress) and event.completed_step_count >= after_steps:
                return event.completed_step_count
    raise AssertionError("the stream ended without steps")


def under_load(bench: Bench, server: Server) -> Iterator[Measured]:
    """G1, G3 and G6 at the small size, played in real time."""
    device = bench.pipeline.calibrated(bench.unsaturated_px)
    setting = Setting(workload=W_MIX, device=device, request_count=bench.plays.request_count)
    found = contest(setting, (1,), Effort.quick())
    pair = Pair(bench, server, device, setting)
    yield from pair.moderate_load(found.policies["B2"])
    yield pair.goodput(found.policies["B3"])


def exact_goodput(bench: Bench) -> Measured:
    """G10: the same requests at the rate that shared steps sustain, to a server of either level."""
    device = bench.pipeline.calibrated(bench.saturated_px)
    count = bench.plays.exact_request_count
    setting = Setting(workload=W_MIX, device=device, request_count=count)
    ratios, shares = [], []
    with bench.server("EXACT") as (exact, _), bench.server("TOLERANCE") as (shared, _):
        for seed in bench.plays.seeds:
            drawn = W_MIX.arrivals(seed, setting.request_count, size_px=bench.saturated_px)
            arrivals = at_rate(drawn, _rate(setting.sustained(ours, seed)))
            limits_s = [
                one.at_s + setting.objective.allowed_s(one.kind, device) for one in arrivals
            ]
            runs = {}
            for server in (exact, shared) if seed % 2 else (shared, exact):
                trace = play_server(server.address, arrivals, [*limits_s])
                runs[server] = Run(arrivals, limits_s, trace)
                time.sleep(1.0)  # what was turned away is gone before the other begins
            ratios.append(runs[exact].goodput_per_s() / runs[shared].goodput_per_s())
            shares.append([round(runs[one].attainment(), 3) for one in (exact, shared)])
    return Measured(
        goal="G10",
        tier=bench.tier,
        metric=f"goodput W-mix, {bench.saturated_px} px, exact / tolerance",
        target=bench.targets.exact_goodput,
        at_least=True,
        estimate=Estimate.of(ratios),
        details={"met_exact_tolerance": shares, "device": dataclasses.asdict(device)},
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """Ours on the server and a baseline in this process, on one sequence of requests each round."""

    bench: Bench
    server: Server
    device: Device
    setting: Setting

    def goodput(self, policy: Any) -> Measured:
        """Each at the highest rate at which it keeps the objective, sought by steps of a tenth.

        The search begins at the rate that its virtual twin sustains; no figure where it finds none.
        """
        ratios, shares = [], []
        for seed in self.bench.plays.seeds:
            mine = self._sustained(ours, None, seed)
            theirs = self._sustained(whole(policy), policy, seed)
            if mine is None or theirs is None:
                break
            ratios.append(mine.goodput_per_s() / theirs.goodput_per_s())
            shares.append([round(run.goodput_per_s(), 3) for run in (mine, theirs)])
        return Measured(
            goal="G1",
            tier=self.bench.tier,
            metric=f"goodput W-mix, {self.device.size_px} px, ours / B3, sustained for real",
            target=self.bench.targets.goodput,
            at_least=True,
            estimate=Estimate.of(ratios) if len(ratios) == len(self.bench.plays.seeds) else None,
            details={"ours_b3_per_s": shares, "device": dataclasses.asdict(self.device)},
        )

    def _sustained(self, maker: Maker, policy: Any, seed: int) -> Run | None:
        """The run at the highest rate of the search that keeps the objective."""
        rate = _rate(self.setting.sustained(maker, seed))
        best = self._run(policy, rate, seed, told=True)
        keeps = best.keeps(self.setting.objective)
        for _ in range(MAX_RATE_STEPS):
            rate = rate / RATE_STEP if keeps else rate * RATE_STEP
            run = self._run(policy, rate, seed, told=True)
            if run.keeps(self.setting.objective) != keeps:
                return best if keeps else run
            best = run
        return best if keeps else None

    def moderate_load(self, policy: Any) -> Iterator[Measured]:
        """G3 for 4 steps, and G6, at 0.7 load; nobody is told a deadline.

        A round in which the baseline was busier than the load allows does not count for G3: it was
        another load.
        """
        tails_s, busy_shares = [], []
        pictures_s: dict[int, list[tuple[float, float]]] = {
            one: [] for one in self.bench.plays.preview_intervals
        }
        for seed in self.bench.plays.seeds:
            rate = 0.7 * self.setting.one_by_one_per_s(seed)
            mine, theirs = self._both(policy, rate, seed)
            tails_s.append([percentile(run.latencies_s(4), 0.99) for run in (mine, theirs)])
            busy_shares.append(theirs.trace.busy_s / theirs.trace.end_s)
            for interval_steps, medians_s in pictures_s.items():
                medians_s.append(first_pictures_s(self.server, theirs, interval_steps))
        rounds = zip(tails_s, busy_shares, strict=True)
        ratios = [mine / theirs for (mine, theirs), busy in rounds if busy <= MAX_BUSY_SHARE]
        yield Measured(
            goal="G3",
            tier=self.bench.tier,
            metric=f"p99 of 4 steps at 0.7 load, {self.device.size_px} px, ours / B2",
            target=self.bench.targets.tail,
            at_least=False,
            estimate=Estimate.of(ratios) if ratios else None,
            details={
                "ours_b2_s": tails_s,
                "b2_busy_shares": busy_shares,
                "policy": dataclasses.asdict(policy),
            },
        )
        for interval_steps, medians_s in pictures_s.items():
            yield time_to_preview(self.bench, medians_s, interval_steps)

    def _both(self, policy: Any, rate: float, seed: int) -> tuple[Run, Run]:
        """Ours and the baseline's, at one rate; nobody is told a deadline."""
        order = (None, policy) if seed % 2 else (policy, None)
        runs = [self._run(one, rate, seed, told=False) for one in order]
        first, second = runs
        return (first, second) if seed % 2 else (second, first)

    def _run(self, policy: Any, rate: float, seed: int, *, told: bool) -> Run:
        """One playing in real time by a baseline, or by the server where `policy` is None."""
        drawn = self.setting.workload.arrivals(
            seed, self.setting.request_count, size_px=self.device.size_px
        )
        arrivals = at_rate(drawn, rate)
        limits_s = [
            one.at_s + self.setting.objective.allowed_s(one.kind, self.device) for one in arrivals
        ]
        known: list[float | None] = [*limits_s] if told else [None] * len(arrivals)
        if policy is None:
            trace = play_server(self.server.address, arrivals, known)
        else:
            trace = play_pipeline(self.bench.pipeline, policy, self.device, arrivals, known)
        time.sleep(1.0)  # what was turned away is gone before the next begins
        return Run(arrivals, limits_s, trace)


def _rate(run: Run | None) -> float:
    assert run is not None
    return len(run.arrivals) / run.arrivals[-1].at_s
