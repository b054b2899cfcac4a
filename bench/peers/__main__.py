"""`make bench-peers`: Darkroom beside the peers that are installed, in one run.

All servers run at once, and one at a time is asked. Peers are tuned by a sweep on seeds of their
own; Darkroom is as it comes. Every process computes with as many threads.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.measured import Estimate, Measured
from bench.peers import measures
from bench.peers.figures import OURS, Row
from bench.peers.install import PACKAGES, ROOT, is_installed
from bench.peers.measures import BRIEF, QUICK, Plays, Stage
from bench.peers.systems import Batches, darkroom, lines_to_write, peer
from bench.pipelines import Pipeline
from bench.results_table import commit_now, figure, keep, show
from bench.scoring import OBJECTIVES
from bench.virtual import Device
from bench.workloads import W_MIX

SMALL_PX, LARGE_PX = 64, 256
#: Of the sweep: requests at a load beyond what is served one by one.
TUNING_SEED, TUNING_LOAD, TUNING_COUNT = 1001, 1.2, 40
GRID = (Batches(8, 0.05), Batches(4, 0.02), Batches(8, 0.2), Batches(1, 0.0))
QUICK_GRID = GRID[:2]
PROBE_COUNT = 8


def main() -> None:
    """Measures, prints and keeps."""
    parser = argparse.ArgumentParser(prog="bench.peers", description=__doc__)
    parser.add_argument("peers", nargs="*", metavar="peer", help=", ".join(PACKAGES))
    parser.add_argument("--quick", action="store_true", help="one seed, fewer requests and rates")
    parser.add_argument("--brief", action="store_true", help="minutes: untuned, without W-size")
    parser.add_argument("--threads", type=int, default=1, help="of every server")
    parser.add_argument("--model", default="tiny-sdxl")
    parser.add_argument("--no-large", action="store_true", help=f"leave {LARGE_PX} px out")
    parser.add_argument("--note", help="what to say of the machine, kept with the results")
    args = parser.parse_args()
    commit, measured = commit_now(), list[Measured]()
    for one in _measured(args):
        print(f"{one.metric}: {figure(one)}", flush=True)
        measured.append(one)
        kept = keep(
            measured, tiers="peers", quick=args.quick or args.brief, commit=commit, note=args.note
        )
    show([one for one in measured if one.target is not None])
    print(f"-> {kept}")


def _measured(args: argparse.Namespace) -> Iterator[Measured]:
    plays = BRIEF if args.brief else QUICK if args.quick else Plays()
    is_rough = args.brief or args.quick
    model = ROOT / "model_repo" / args.model
    version = max(model.glob("[1-9]*"), key=lambda path: int(path.name))
    pipeline = Pipeline.of(version, thread_count=args.threads)
    small = pipeline.calibrated(SMALL_PX, rounds=1 if is_rough else 3)
    names = [name for name in args.peers or PACKAGES if is_installed(name)]
    grid = QUICK_GRID if is_rough else GRID
    best = {
        name: grid[0] if args.brief else _tuned(name, version, args.threads, small, pipeline, grid)
        for name in names
    }
    with contextlib.ExitStack() as stack:
        systems = {OURS: stack.enter_context(darkroom(model, args.threads, _sizes(args)))}
        for name in names:
            systems[name] = stack.enter_context(peer(name, version, args.threads, best[name]))
        cold_s = {name: [one.cold_start_s] for name, one in systems.items()}
        yield from _once("cold start to the first picture", "s", cold_s)
        stage = Stage(systems=systems, bare=pipeline, device=small, plays=plays)
        yield from _speed(pipeline, "before")
        yield from _small(stage)
        if not args.no_large:
            large = pipeline.calibrated(LARGE_PX, rounds=1 if is_rough else 3)
            yield from _large(dataclasses.replace(stage, device=large))
        memory = {name: [one.tree.memory_bytes() / 2**20] for name, one in systems.items()}
        yield from _once("memory after all of it", "MiB", memory)
        idle = {name: [one.tree.idle_share] for name, one in systems.items()}
        yield from _once("processor time that it takes idle, of one core", "", idle)
        yield from _speed(pipeline, "after")
    lines = {name: [float(lines_to_write(name))] for name in systems}
    yield from _once("lines of Python to write", "", lines)


def _small(stage: Stage) -> Iterator[Measured]:
    """All that is measured at the size at which a batch gains much."""
    for row in measures.equal_pictures(stage):
        yield from row.figures()
        yield row.of_ours(1.0, at_least=True)
    idle = measures.idle_latency(stage)
    yield from idle.figures()
    yield idle.of_ours(1.10, at_least=False)
    yield from _throughput(stage, stage.plays.waiting_counts[0])
    hung_up = measures.wasted(stage)
    yield from hung_up.figures()
    yield hung_up.of_ours(0.03, at_least=False)
    for row in measures.moderate_load(stage):
        yield from row.figures()
        if row.measure.startswith("p99 of 4 steps"):
            yield row.against_best(0.15, at_least=False)
    yield from _goodput(stage, 3.0)
    if stage.plays is not BRIEF:
        for row in measures.others(stage):
            yield from row.figures()


def _large(stage: Stage) -> Iterator[Measured]:
    """What is measured where a batch gains little."""
    idle = measures.idle_latency(stage)
    yield from idle.figures()
    yield idle.of_ours(1.02, at_least=False)
    yield from _throughput(stage, stage.plays.waiting_counts[1])
    yield from _goodput(stage, 1.3)


def _throughput(stage: Stage, count: int) -> Iterator[Measured]:
    row = measures.throughput(stage, count)
    yield from row.figures()
    yield row.of_ours(0.98, at_least=True)


def _goodput(stage: Stage, target: float) -> Iterator[Measured]:
    for objective in stage.plays.objectives:
        row = measures.goodput(stage, objective)
        yield from row.figures()
        if objective is OBJECTIVES[0]:
            yield row.against_best(target, at_least=True)


def _once(measure: str, unit: str, values: dict[str, list[float]]) -> Iterator[Measured]:
    row = Row(measure=measure, unit=unit, more_is_better=False, values=values)
    yield from row.figures()


def _speed(pipeline: Pipeline, when: str) -> Iterator[Measured]:
    """How fast the machine is: the same pictures of the pipeline, before and after all."""
    one = [W_MIX.arrivals(1, 1, size_px=SMALL_PX)[0]]
    one = [dataclasses.replace(one[0], step_count=20, guidance_scale=5.0)]
    yield Measured(
        goal="G12",
        tier="peers",
        metric=f"seconds of bare diffusers for 20 steps at {SMALL_PX} px, {when}",
        target=None,
        at_least=False,
        estimate=Estimate.of([pipeline.timed_s(one) for _ in range(PROBE_COUNT)]),
    )


def _tuned(
    name: str,
    version: Path,
    thread_count: int,
    device: Device,
    pipeline: Pipeline,
    grid: Sequence[Batches],
) -> Batches:
    """The batching with which most of a seed of its own is in time."""
    plays = dataclasses.replace(QUICK, request_count=TUNING_COUNT)
    shares = {}
    for batches in grid:
        with peer(name, version, thread_count, batches) as system:
            stage = Stage(systems={name: system}, bare=pipeline, device=device, plays=plays)
            run, _ = stage.run(name, W_MIX, TUNING_SEED, TUNING_LOAD, None)
        waits = run.latencies_s()
        shares[batches] = (run.attainment(), -statistics.median(waits))
        print(f"{name} {batches}: {shares[batches][0]:.3f} in time", flush=True)
    return max(shares, key=lambda batches: shares[batches])


def _sizes(args: argparse.Namespace) -> tuple[int, ...]:
    """What Darkroom proves before; the pictures of W-size are of four sizes."""
    large = () if args.no_large else (LARGE_PX,)
    small = (SMALL_PX,) if args.brief else tuple(measures.SMALL_SIZES_PX.values())
    return (*small, *large)


if __name__ == "__main__":
    main()
