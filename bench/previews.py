"""G6 on a real server: how soon a preview is there under load, and what previews cost."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence

from bench.load import GIVE_UP_S, options, play_server
from bench.measured import Estimate, Measured
from bench.pipelines import PROMPT
from bench.scoring import Run
from bench.serving import Server
from bench.setup import Bench
from bench.workloads import W_HOMOG, Arrival, at_once
from darkroom_client import AsyncClient, ImageReady, Preview


def first_pictures_s(server: Server, baseline: Run, interval_steps: int) -> tuple[float, float]:
    """Median time from arrival to the first picture of any kind: ours, and the baseline's only one.

    The arrivals are those that the baseline was given. A request of fewer steps than the interval
    has no preview: there it is the image. Medians are over the scored requests.
    """
    seen_s = asyncio.run(_first_pictures(server.address, baseline.arrivals, interval_steps))
    finished_s, scored = baseline.trace.finished_s, baseline.scored()
    return (
        statistics.median(seen_s[one.index] - one.at_s for one in scored),
        statistics.median(finished_s[one.index] - one.at_s for one in scored),
    )


def time_to_preview(
    bench: Bench, medians_s: Sequence[tuple[float, float]], interval_steps: int
) -> Measured:
    """G6 of what `first_pictures_s` found, B2 being the baseline."""
    return Measured(
        goal="G6",
        tier=bench.tier,
        metric=f"time to first preview, {_every(interval_steps)}, at 0.7 load, "
        f"{bench.unsaturated_px} px, ours / B2's image",
        target=bench.targets.first_preview,
        at_least=False,
        estimate=Estimate.of([mine / theirs for mine, theirs in medians_s]),
        details={"ours_b2_s": medians_s},
    )


async def _first_pictures(
    address: str, arrivals: Sequence[Arrival], interval_steps: int
) -> dict[int, float]:
    """When each request's first preview or image came, from the start."""
    seen_s: dict[int, float] = {}
    async with AsyncClient(address, max_attempts=1) as client:
        started_s = time.perf_counter()

        async def one_request(one: Arrival) -> None:
            await asyncio.sleep(max(0.0, started_s + one.at_s - time.perf_counter()))
            async for event in client.generate_events(
                PROMPT,
                timeout=GIVE_UP_S,
                preview_interval_steps=interval_steps,
                **options(one),
            ):
                if isinstance(event, Preview | ImageReady):
                    seen_s.setdefault(one.index, time.perf_counter() - started_s)

        await asyncio.gather(*map(one_request, arrivals))
    return seen_s


def preview_cost(bench: Bench, server: Server, size_px: int, interval_steps: int) -> Measured:
    """Equal requests that all wait: time with previews over time without, less one."""
    count = bench.waiting_count(size_px)
    waiting = at_once(W_HOMOG.arrivals(1, count, size_px=size_px))

    def with_s() -> float:
        started_s = time.perf_counter()
        asyncio.run(_first_pictures(server.address, waiting, interval_steps))
        return time.perf_counter() - started_s

    def without_s() -> float:
        started_s = time.perf_counter()
        play_server(server.address, waiting, [None] * count)
        return time.perf_counter() - started_s

    with_s(), without_s()
    costs = [with_s() / without_s() - 1.0 for _ in range(bench.plays.preview_round_count)]
    return Measured(
        goal="G6",
        tier=bench.tier,
        metric=f"throughput cost of previews, {_every(interval_steps)}, {size_px} px",
        target=bench.targets.preview_cost,
        at_least=False,
        estimate=Estimate.of(costs),
    )


def _every(interval_steps: int) -> str:
    return "every step" if interval_steps == 1 else f"every {interval_steps} steps"
