"""What tier C's measurements share: the model, the stock pipeline, and servers of the model."""

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

#: The least size of the model, of which a batch gains much.
UNSATURATED_PX = 64
#: The first of these at which four times the rows of a guided image gain at most a quarter is taken
#: as the saturated size: which it is depends on the processor.
SATURATED_SIZES_PX, SATURATED_GAIN = (256, 384, 512), 1.25


@dataclasses.dataclass(frozen=True, slots=True)
class Bench:
    """What the measurements share."""

    model: Path
    thread_count: int
    pipeline: Pipeline
    saturated_px: int
    quick: bool

    @contextmanager
    def server(self, reproducibility: str) -> Iterator[tuple[Server, Client]]:
        """A server of the model at a level of exactness."""
        with tempfile.TemporaryDirectory() as folder:
            repository = repository_with(Path(folder), self.model, reproducibility)
            flags = ("--worker-thread-count", str(self.thread_count))
            with serving(repository, *flags) as server, connected(server) as client:
                client.generate(PROMPT, steps=4, seed=0)
                yield server, client

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the workloads that are played in turn."""
        return (1, 2) if self.quick else (1, 2, 3)

    def waiting_count(self, size_px: int) -> int:
        """Requests that wait when throughput is measured; large images take long enough in few."""
        return 16 if self.quick or size_px > UNSATURATED_PX else 48

    @property
    def version(self) -> Path:
        """The newest version of the model."""
        return max(self.model.glob("[1-9]*"), key=lambda path: int(path.name))


def saturated_px(pipeline: Pipeline) -> int:
    """The size at which more rows gain little here; the largest tried where none is like that."""
    for size_px in SATURATED_SIZES_PX:
        gains = dict(pipeline.calibrated(size_px).gains)
        if gains[8] <= SATURATED_GAIN * gains[2]:
            break
    return size_px
