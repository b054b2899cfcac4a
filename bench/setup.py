"""What measurements of a real server share: the model, the stock pipeline, servers of the model."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.load import repository_with
from bench.pipelines import PROMPT, Pipeline
from bench.serving import Server, connected, serving
from darkroom_client import Client

#: The first of these at which four times the rows of a guided image gain at most a quarter is taken
#: as the saturated size: which it is depends on the processor.
SATURATED_SIZES_PX, SATURATED_GAIN = (256, 384), 1.25


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What a tier asks for: limits that ratios must reach (goodput, throughput) or keep below."""

    goodput: float
    tail: float
    idle_latency: float
    throughput: float
    first_preview: float
    preview_cost: float
    cancel_steps: float
    memory: float
    exact_goodput: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plays:
    """How much is measured."""

    seeds: tuple[int, ...] = (1, 2)
    #: Requests of a workload, of it at EXACT, and such as wait when throughput is measured, at
    #: the unsaturated size and at the saturated one.
    request_count: int = 510
    exact_request_count: int = 120
    waiting_counts: tuple[int, int] = (48, 8)
    #: Requests one by one, ours and the pipeline's in turn, and rounds of many at once.
    pair_count: int = 16
    round_count: int = 6
    preview_round_count: int = 6
    memory_round_count: int = 2
    equality_count: int = 32
    hang_up_count: int = 100
    #: Steps between previews under load: how often they are asked for is up to the caller.
    preview_intervals: tuple[int, ...] = (1, 5)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What the measurements share."""

    tier: str
    targets: Targets
    plays: Plays
    model: Path
    pipeline: Pipeline
    unsaturated_px: int
    saturated_px: int
    thread_count: int

    @contextmanager
    def server(self, reproducibility: str) -> Iterator[tuple[Server, Client]]:
        """A server of the model at a level of exactness."""
        with tempfile.TemporaryDirectory() as folder:
            repository = repository_with(Path(folder), self.model, reproducibility)
            flags = ("--worker-thread-count", str(self.thread_count))
            with serving(repository, *flags) as server, connected(server) as client:
                client.generate(PROMPT, steps=4, seed=0)
                yield server, client

    def waiting_count(self, size_px: int) -> int:
        """Requests that wait when throughput is measured; large images take long enough in few."""
        small, large = self.plays.waiting_counts
        return large if size_px > self.unsaturated_px else small


def saturated_px(pipeline: Pipeline) -> int:
    """The size at which more rows gain little here; the largest tried where none is like that."""
    for size_px in SATURATED_SIZES_PX:
        gains = dict(pipeline.calibrated(size_px).gains)
        if gains[8] <= SATURATED_GAIN * gains[2]:
            break
    return size_px
