"""`python -m bench.alone`: one caller's picture through the real server, and by a bare loop.

Both take turns on one machine, A B A B, with as many threads as each has by itself. Besides the
clock, which other work on the machine stretches, the processor time of each: what the server, its
worker and the caller take for a picture, and what the loop takes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from bench.load import options, repository_with
from bench.measured import Estimate
from bench.pipelines import PROMPT, Pipeline
from bench.serving import Server, connected, serving
from bench.setup import prove
from bench.workloads import W_HOMOG, Arrival
from darkroom_client import Client

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Taken:
    """Seconds of one picture: by the clock and of processors."""

    clock_s: float
    processor_s: float


@dataclass(frozen=True, slots=True)
class Pair:
    """The same picture both ways."""

    served: Taken
    bare: Taken


def measure(
    server: Server, client: Client, pipeline: Pipeline, size_px: int, pair_count: int
) -> list[Pair]:
    """Pairs, of which every other one begins with the loop."""
    processes = {server.process.pid, server.worker_pid()}

    def served(one: Arrival) -> None:
        client.generate(PROMPT, **options(one))

    def bare(one: Arrival) -> None:
        pipeline.run([one])

    arrivals = W_HOMOG.arrivals(1, pair_count + 2, size_px=size_px)
    for one in arrivals[:2]:
        bare(one)
        served(one)
    pairs = []
    for number, one in enumerate(arrivals[2:]):
        if number % 2:
            loop, ours = _taken(bare, one, set()), _taken(served, one, processes)
        else:
            ours, loop = _taken(served, one, processes), _taken(bare, one, set())
        pairs.append(Pair(ours, loop))
    return pairs


def _taken(work: Callable[[Arrival], None], one: Arrival, processes: set[int]) -> Taken:
    """What a picture takes of this process and of others."""
    before = [_ran_s(pid) for pid in (*processes, "self")]
    started_s = time.perf_counter()
    work(one)
    clock_s = time.perf_counter() - started_s
    after = [_ran_s(pid) for pid in (*processes, "self")]
    return Taken(clock_s, sum(after) - sum(before))


def _ran_s(pid: int | str) -> float:
    """Seconds that a process's threads ran."""
    ran_ns = 0
    for stat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            ran_ns += int(stat.read_text(encoding="ascii").split()[0])
        except OSError:  # the thread has ended
            continue
    return ran_ns / 1e9


@contextmanager
def served_model(model: Path, sizes_px: list[int], level: str) -> Iterator[tuple[Server, Client]]:
    """A server of the model with its own default number of threads."""
    with tempfile.TemporaryDirectory() as folder:
        repository = repository_with(Path(folder), model, level)
        with serving(repository) as server, connected(server) as client:
            if level == "EXACT":
                prove(client, sizes_px)
            yield server, client


def show(size_px: int, pairs: list[Pair]) -> None:
    """One table a size."""
    table = Table(f"{size_px} px", "served / bare", "served ms", "bare ms", "least / least")
    for name in ("clock_s", "processor_s"):
        ours = [getattr(pair.served, name) for pair in pairs]
        loop = [getattr(pair.bare, name) for pair in pairs]
        ratio = Estimate.of([mine / theirs for mine, theirs in zip(ours, loop, strict=True)])
        table.add_row(
            name.removesuffix("_s"),
            f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})",
            f"{1e3 * statistics.median(ours):.1f}",
            f"{1e3 * statistics.median(loop):.1f}",
            f"{min(ours) / min(loop):.3f}",
        )
    Console(width=100).print(table)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="bench.alone", description=__doc__)
    parser.add_argument("--model", default="tiny-sdxl")
    parser.add_argument("--size", action="append", type=int, help="edges in pixels")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--level", default="EXACT", choices=("EXACT", "TOLERANCE"))
    args = parser.parse_args()
    sizes_px = args.size or [64, 256]
    model = ROOT / "model_repo" / args.model
    newest = max(model.glob("[1-9]*"), key=lambda path: int(path.name))
    pipeline = Pipeline.of(newest, thread_count=torch.get_num_threads())
    with served_model(model, sizes_px, args.level) as (server, client):
        for size_px in sizes_px:
            show(size_px, measure(server, client, pipeline, size_px, args.pairs))


if __name__ == "__main__":
    main()
