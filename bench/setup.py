"""What measurements of a real server share: the model, the stock pipeline, servers of the model."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.load import repository_with
from bench.pipelines import PROMPT, Pipeline
from bench.serving import Server, connected, serving
from darkroom_client import Client

#: The first of these at which four times the rows of a guided image gain at most a quarter is taken
#: as the saturated size: which it is depends on the processor.
SATURATED_SIZES_PX, SATURATED_GAIN = (256, 384), 1.25
#: It is looked so often whether anything is being proved; so many times in a row nothing must be.
PROOF_POLL_S, PROOF_STILL_COUNT, PROOF_LIMIT_S = 1.0, 3, 900.0


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
                prove(client, (self.unsaturated_px, self.saturated_px))
                yield server, client

    def waiting_count(self, size_px: int) -> int:
        """Requests that wait when throughput is measured; large images take long enough in few."""
        small, large = self.plays.waiting_counts
        return large if size_px > self.unsaturated_px else small


def prove(client: Client, sizes_px: Sequence[int]) -> None:
    """Lets a server find what may be shared exactly at some sizes, before anything is measured.

    A size is proved after the first request for it. What is being proved is told now and then.
    """
    for size_px in sizes_px:
        for guidance_scale in (1.0, 5.0):
            size = {"width": size_px, "height": size_px}
            client.generate(PROMPT, steps=4, seed=0, guidance_scale=guidance_scale, **size)
    ends_s = time.monotonic() + PROOF_LIMIT_S
    still_count = 0
    while still_count < PROOF_STILL_COUNT:
        if time.monotonic() > ends_s:
            raise TimeoutError(f"The proofs took longer than {PROOF_LIMIT_S:g} s.")
        time.sleep(PROOF_POLL_S)
        versions = [version for model in client.list_models() for version in model.versions]
        is_proving = any(one.step_sharing and one.step_sharing.is_proving for one in versions)
        still_count = 0 if is_proving else still_count + 1


def saturated_px(pipeline: Pipeline) -> int:
    """The size at which more rows gain little here; the largest tried where none is like that."""
    for size_px in SATURATED_SIZES_PX:
        gains = dict(pipeline.calibrated(size_px).gains)
        if gains[8] <= SATURATED_GAIN * gains[2]:
            break
    return size_px
