"""`python -m bench.exact_cost`: a step at EXACT over the same step at TOLERANCE, in one process.

The embedded models, by size, images of a step, guidance and number type. Steps of both levels take
turns, A B A B; reported is the least of many, since a machine with other work only ever adds to it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog
import torch
from rich.console import Console
from rich.table import Table

from darkroom_server.backends.diffusers.loader import load_model
from darkroom_server.backends.diffusers.networks.exact_plan import EACH, ONE_CALL, Keys
from darkroom_server.backends.diffusers.step_model import AnyFamilyModel, DiffusersStepModel
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec, Reproducibility
from darkroom_server.domain.models import DeviceKind, Dtype, ModelInfo, Placement, VersionInfo
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.worker.proving import GUIDED_SCALE
from darkroom_server.worker.trial import trial_spec

ROOT = Path(__file__).parents[1]
MODELS = ("tiny-sdxl", "tiny-flux-schnell")
#: Steps of each level, fewer where they take longer than this in all.
STEPS, LONGEST_S = 60, 10.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Seconds of a step at both levels, and how many parts are computed by image."""

    model: str
    dtype: str
    size_px: int
    guidance: str
    image_count: int
    exact_s: float
    tolerance_s: float
    parts: int

    @property
    def ratio(self) -> float:
        """What a step costs at EXACT, over TOLERANCE."""
        return self.exact_s / self.tolerance_s


def load(version: VersionInfo, dtype: Dtype, thread_count: int) -> tuple[AnyFamilyModel, ModelInfo]:
    """A version on the processor in a number type."""
    info = dataclasses.replace(version.model, dtype=dtype)
    model = load_model(
        dataclasses.replace(version, model=info),
        Placement(DeviceKind.CPU),
        thread_count=thread_count,
        prompts=PromptCache(max_bytes=64 << 20),
    )
    assert isinstance(model, DiffusersStepModel)
    return model, info


def costs(
    model: AnyFamilyModel, info: ModelInfo, sizes_px: list[int], image_counts: list[int]
) -> Iterator[Cost]:
    """Every size, guidance and number of images that the model has and that was proved."""
    for size_px in sizes_px:
        for scale, guidance in ((GUIDED_SCALE, "guided"), (1.0, "unguided")):
            spec = trial_spec(info, size_px, size_px, guidance_scale=scale)
            rows = model.rows(spec)
            if (rows == 1) == (guidance == "guided"):
                continue  # one row with guidance, too, is in the other line
            spec = dataclasses.replace(spec, reproducibility=Reproducibility.EXACT)
            for count in image_counts:
                images = _images(model, spec, count)
                _prove(model, images)
                yield _cost(model, info, images, guidance)


def _images(model: AnyFamilyModel, spec: ImageSpec, count: int) -> list[Any]:
    """Images of other prompts and noise, before their first step."""
    specs = [dataclasses.replace(spec, prompt=f"{k % 4}", seeds=(k,)) for k in range(count)]
    return [model.begin(one, model.encode(one), 0) for one in specs]


def _prove(model: AnyFamilyModel, images: list[Any]) -> None:
    alone = [model.denoise(model.gather([one])) for one in images]
    *_, is_equal = model.prove(model.gather(images), alone)
    assert is_equal


def _cost(model: AnyFamilyModel, info: ModelInfo, images: list[Any], guidance: str) -> Cost:
    spec = images[0].spec
    exact = model.gather(images)
    inputs = {
        Reproducibility.EXACT: exact,
        Reproducibility.TOLERANCE: dataclasses.replace(exact, is_exact=False),
    }
    seconds: dict[Reproducibility, list[float]] = {level: [] for level in inputs}
    until_s = time.perf_counter() + LONGEST_S
    for _ in range(STEPS):
        if time.perf_counter() > until_s and seconds[Reproducibility.EXACT]:
            break
        for level, gathered in inputs.items():
            started_s = time.perf_counter()
            model.denoise(gathered)
            model.wait()
            seconds[level].append(time.perf_counter() - started_s)
    plan, size = model.sharing_plan(), repr(model.batch_key(spec))
    steps = [Keys(size, model.rows(spec), len(images), how).text for how in (ONE_CALL, EACH)]
    return Cost(
        model=info.name,
        dtype=model.dtype().value,
        size_px=spec.width_px,
        guidance=guidance,
        image_count=len(images),
        exact_s=min(seconds[Reproducibility.EXACT]),
        tolerance_s=min(seconds[Reproducibility.TOLERANCE]),
        parts=sum(len(plan.get(one, ())) for one in steps),
    )


def show(found: list[Cost]) -> None:
    """One table."""
    table = Table("model", "type", "px", "", "images", "exact ms", "tolerance ms", "ratio", "parts")
    for one in found:
        table.add_row(
            *(one.model, one.dtype, str(one.size_px), one.guidance, str(one.image_count)),
            *(f"{1e3 * one.exact_s:.2f}", f"{1e3 * one.tolerance_s:.2f}"),
            *(f"{one.ratio:.3f}", str(one.parts)),
        )
    Console(width=100).print(table)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="bench.exact_cost", description=__doc__)
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--size", action="append", type=int, help="edges in pixels")
    parser.add_argument("--images", action="append", type=int, help="of a step")
    parser.add_argument("--dtype", action="append", choices=("fp32", "bf16"))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    torch.set_num_threads(args.threads)
    found: list[Cost] = []
    for scanned in ModelRepository(ROOT / "model_repo").scan().models:
        version = scanned.versions[0]
        if version.model.name not in (args.model or MODELS):
            continue
        for dtype in args.dtype or ("fp32", "bf16"):
            model, info = load(version, Dtype(dtype), args.threads)
            found += costs(model, info, args.size or [64, 128, 256], args.images or [2, 4, 8, 16])
    show(found)


if __name__ == "__main__":
    main()
