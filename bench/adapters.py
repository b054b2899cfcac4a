"""`python -m bench.adapters`: a step of images with an adapter each, over one of the base model.

Of the embedded SDXL model with random adapters of its attention layers. In one process, steps take
turns: the base model alone, every image with its own adapter, the same in steps of their own (what
servers do that batch by adapter), and a step of the base model again after adapters were used.
Counted is processor time, which other work of the machine lengthens least. Goodput is the median of
the turns' ratios, milliseconds are the least of many. `by arithmetic` is the goodput if an
adapter's operations took as long as the base model's, and calls nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from bench.exact_cost import ROOT, _images, _prove, load
from darkroom_server.backends.diffusers.adapters.low_rank import Adapter, LowRank, Weighted
from darkroom_server.domain.jobs import Reproducibility
from darkroom_server.domain.models import Dtype
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.worker.trial import trial_spec

MODEL = "tiny-sdxl"
LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
STEPS, LEAST_STEPS, LONGEST_S = 200, 7, 90.0


def random_adapter(module: torch.nn.Module, rank: int, seed: int) -> Adapter:
    """One that adds to all attention layers."""
    generator = torch.Generator().manual_seed(seed)
    layers = {
        name: LowRank(
            torch.randn(rank, part.in_features, generator=generator) * 0.05,
            torch.randn(part.out_features, rank, generator=generator) * 0.05,
            float(rank),
            float(rank),
        )
        for name, part in module.named_modules()
        if isinstance(part, torch.nn.Linear) and name.endswith(LAYERS)
    }
    return Adapter(key=f"{seed} of {rank}", parts={"unet": layers})


@dataclasses.dataclass(frozen=True, slots=True)
class Turns:
    """Seconds of processor time of each way, turn by turn."""

    seconds: dict[str, list[float]]

    def least_ms(self, way: str) -> float:
        """The least of a way."""
        return 1e3 * min(self.seconds[way])

    def goodput(self, way: str) -> float:
        """The base model's seconds over the way's, the median of all turns."""
        pairs = zip(self.seconds["base"], self.seconds[way], strict=True)
        return statistics.median(base / other for base, other in pairs)


def timed(ways: dict[str, Callable[[], None]]) -> Turns:
    """Each in turn. Processor time: what else the machine does lengthens it least."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    until_s = time.perf_counter() + LONGEST_S
    for number in range(STEPS):
        if number > LEAST_STEPS and time.perf_counter() > until_s:
            break
        for name, way in ways.items():
            started_s = time.process_time()
            way()
            seconds[name].append(time.process_time() - started_s)
    return Turns({name: taken[1:] for name, taken in seconds.items()})


def arithmetic(step: Callable[[], object], base: Callable[[], object]) -> float:
    """Operations of a step of the base model over those of a step with adapters."""
    counts = []
    for one in (base, step):
        with FlopCounterMode(display=False) as counter:
            one()
        counts.append(counter.get_total_flops())
    return counts[0] / counts[1]


def measured(model: Any, images: list[Any], rank: int) -> tuple[Turns, float]:
    """A step by each way, and its goodput by arithmetic."""
    base = model.gather(images)
    sets = tuple(
        (Weighted(random_adapter(model.module, rank, seed), 0.8),) for seed in range(len(images))
    )
    own = dataclasses.replace(base, adapters=sets)
    alone = []
    for image, adapters in zip(images, sets, strict=True):
        alone.append(dataclasses.replace(model.gather([image]), adapters=(adapters,)))
    together = model.denoise(own)
    rows = torch.cat([model.denoise(one) for one in alone])
    assert torch.equal(together, rows)

    def apart() -> None:
        for one in alone:
            model.denoise(one)

    turns = timed(
        {
            "base": lambda: model.denoise(base),
            "own adapters": lambda: model.denoise(own),
            "steps by adapter": apart,
            "base again": lambda: model.denoise(base),
        }
    )
    plain = [dataclasses.replace(one, is_exact=False) for one in (own, base)]
    return turns, arithmetic(*(functools.partial(model.denoise, one) for one in plain))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="bench.adapters", description=__doc__)
    parser.add_argument("--size", action="append", type=int, help="edges in pixels")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rank", action="append", type=int)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    torch.set_num_threads(args.threads)
    folder: Path = ROOT / "model_repo"
    scanned = next(m for m in ModelRepository(folder).scan().models if m.info.name == MODEL)
    model, info = load(scanned.versions[0], Dtype.FP32, args.threads)
    table = Table(
        *("px", "rank", "base ms", "own ms", "goodput", "by arithmetic", "none in use"),
        *("by adapter ms", "goodput"),
    )
    for size_px in args.size or [256, 512]:
        spec = trial_spec(info, size_px, size_px, guidance_scale=1.0)
        spec = dataclasses.replace(spec, reproducibility=Reproducibility.EXACT)
        images = _images(model, spec, args.images)
        _prove(model, images)
        for rank in args.rank or [16, 64]:
            found, most = measured(model, images, rank)
            table.add_row(
                *(str(size_px), str(rank)),
                *(f"{found.least_ms(way):.1f}" for way in ("base", "own adapters")),
                f"{found.goodput('own adapters'):.3f}",
                *(f"{most:.3f}", f"{found.goodput('base again'):.3f}"),
                f"{found.least_ms('steps by adapter'):.1f}",
                f"{found.goodput('steps by adapter'):.3f}",
            )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
