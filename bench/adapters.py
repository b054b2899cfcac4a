"""`python -m bench.adapters`: a step of images with an adapter each, over one of the base model.

Of the embedded SDXL model with random adapters of its attention layers. In one process, steps take
turns: the base model alone, every image with its own adapter, the same in steps of their own (what
servers do that batch by adapter), and a step of the base model again after adapters were used.
Reported is the least of many, since a machine with other work only ever adds to it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import torch
from rich.console import Console
from rich.table import Table

from bench.exact_cost import ROOT, _images, _prove, load
from darkroom_server.backends.diffusers.adapters.low_rank import Adapter, LowRank, Weighted
from darkroom_server.domain.jobs import Reproducibility
from darkroom_server.domain.models import Dtype
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.worker.trial import trial_spec

MODEL = "tiny-sdxl"
LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
STEPS, LONGEST_S = 60, 20.0


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
    return Adapter(key=str(seed), parts={"unet": layers})


def timed(ways: dict[str, Callable[[], None]]) -> dict[str, float]:
    """The least seconds of each, taken in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    until_s = time.perf_counter() + LONGEST_S
    for number in range(STEPS):
        if number > 2 and time.perf_counter() > until_s:
            break
        for name, way in ways.items():
            started_s = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started_s)
    return {name: min(taken) for name, taken in seconds.items()}


def measured(model: Any, images: list[Any], rank: int) -> dict[str, float]:
    """Seconds of a step by each way."""
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

    return timed(
        {
            "base": lambda: model.denoise(base),
            "own adapters": lambda: model.denoise(own),
            "steps by adapter": apart,
            "base again": lambda: model.denoise(base),
        }
    )


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
    table = Table("px", "rank", "base ms", "own", "goodput", "none in use", "by adapter", "goodput")
    for size_px in args.size or [256, 512]:
        spec = trial_spec(info, size_px, size_px, guidance_scale=1.0)
        spec = dataclasses.replace(spec, reproducibility=Reproducibility.EXACT)
        images = _images(model, spec, args.images)
        _prove(model, images)
        for rank in args.rank or [16, 64]:
            found = measured(model, images, rank)
            base_s = found["base"]
            table.add_row(
                *(str(size_px), str(rank), f"{1e3 * base_s:.1f}"),
                f"{1e3 * found['own adapters']:.1f}",
                f"{base_s / found['own adapters']:.3f}",
                f"{base_s / found['base again']:.3f}",
                f"{1e3 * found['steps by adapter']:.1f}",
                f"{base_s / found['steps by adapter']:.3f}",
            )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
