"""Tier C: the real server on this machine's cores with an embedded model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench import served
from bench.measured import Measured
from bench.memory import measure_memory
from bench.overhead import idle_latency
from bench.pipelines import Pipeline
from bench.previews import preview_cost
from bench.serving import Server
from bench.setup import Bench, Plays, Targets, saturated_px

ROOT = Path(__file__).parents[1]
#: The least size of the embedded models, of which a batch gains much; and what they make unasked.
UNSATURATED_PX, DEFAULT_PX = 64, 256

TARGETS = Targets(
    goodput=2.5,
    tail=0.20,
    idle_latency=1.05,
    throughput=0.93,
    first_preview=0.10,
    preview_cost=0.03,
    cancel_steps=2.0,
    memory=1.10,
    exact_goodput=0.90,
)
QUICK = Plays(
    seeds=(1,),
    request_count=120,
    exact_request_count=60,
    waiting_counts=(16, 8),
    pair_count=10,
    round_count=3,
    preview_round_count=4,
    memory_round_count=1,
    equality_count=16,
    hang_up_count=20,
)


def measure_cores(name: str, *, thread_count: int, quick: bool) -> Iterator[Measured]:
    """All of tier C, one after another."""
    model = ROOT / "model_repo" / name
    newest = max(model.glob("[1-9]*"), key=lambda path: int(path.name))
    pipeline = Pipeline.of(newest, thread_count=thread_count)
    bench = Bench(
        tier="C",
        targets=TARGETS,
        plays=QUICK if quick else Plays(),
        model=model,
        pipeline=pipeline,
        unsaturated_px=UNSATURATED_PX,
        saturated_px=saturated_px(pipeline),
        thread_count=thread_count,
    )
    with bench.server("EXACT") as (server, client):
        yield idle_latency(bench, client, DEFAULT_PX)
        yield served.bit_equality(bench, server)
    yield measure_memory(bench, newest)
    with bench.server("EXACT") as (server, _):
        yield served.cancel(bench, server)
        yield from _throughput(bench, server, bench.unsaturated_px)
        yield from served.under_load(bench, server)
        yield from _throughput(bench, server, bench.saturated_px)
    yield served.exact_goodput(bench)


def _throughput(bench: Bench, server: Server, size_px: int) -> Iterator[Measured]:
    yield served.best_batch(bench, server, size_px)
    for interval_steps in bench.plays.preview_intervals:
        yield preview_cost(bench, server, size_px, interval_steps)
