"""`make bench-denoisers`: images a second by each denoiser, over torch's eager one, in one run.

The embedded models, and random UNet and DiT of a size at which the arithmetic and not the calls
takes the time. Eager and the other take turns, A B A B, in one process with the same threads.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import structlog
import torch
from rich.console import Console

from bench.measured import Estimate, Measured
from bench.results_table import commit_now, keep, show
from darkroom_server.backends.diffusers.exporting.export import (
    LEAST_PSNR_DB,
    export_denoiser,
    load_as,
)
from darkroom_server.backends.diffusers.exporting.parity import made_by, psnr_db
from darkroom_server.backends.diffusers.step_model import AnyFamilyModel
from darkroom_server.backends.exports import UnusableDenoiser
from darkroom_server.domain.errors import ModelUnavailable
from darkroom_server.domain.jobs import ImageSpec, Job, Reproducibility
from darkroom_server.domain.models import Denoiser, Dtype, ExportWeights, ModelInfo, VersionInfo
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.worker.compile_ahead import compile_ahead
from darkroom_server.worker.messages import JobFailed, Report, SubmitJob
from darkroom_server.worker.profiling import candidates
from darkroom_server.worker.step_runner import step_loop
from darkroom_server.worker.trial import trial_spec

ROOT = Path(__file__).parents[1]
EMBEDDED = ("tiny-sdxl", "tiny-flux-schnell")
#: What of an embedded model's denoiser is widened, by the model whose other parts are kept.
WIDENED: dict[str, tuple[str, dict[str, Any]]] = {
    "tiny-sdxl": ("unet", {"block_out_channels": [192, 384], "attention_head_dim": [6, 12]}),
    "tiny-flux-schnell": (
        "transformer",
        {"num_attention_heads": 6, "num_layers": 4, "num_single_layers": 8},
    ),
}
#: Requests a round; rows of a step; steps of the widened models, whose pictures are noise.
IMAGE_COUNT, MAX_ROWS, WIDE_STEP_COUNT = 8, 8, 4


def repository(folder: Path) -> ModelRepository:
    """The embedded models, and each of them with a widened random denoiser, as `wide-…`."""
    for name in EMBEDDED:
        shutil.copytree(ROOT / "model_repo" / name, folder / name)
        wide = folder / name.replace("tiny", "wide")
        shutil.copytree(folder / name, wide)
        config_file = wide / "config.pbtxt"
        config_file.write_text(config_file.read_text().replace(f'"{name}"', f'"{wide.name}"'))
        part, changes = WIDENED[name]
        where = max(wide.glob("[1-9]*"), key=lambda path: int(path.name)) / part
        config = json.loads((where / "config.json").read_text()) | changes
        torch.manual_seed(0)
        module = getattr(diffusers, config["_class_name"]).from_config(config)
        shutil.rmtree(where)
        module.save_pretrained(where)
        (where.parent / "MANIFEST.sha256").unlink()  # it names the weights that are gone
    return ModelRepository(folder)


def versions(found: ModelRepository) -> Iterator[VersionInfo]:
    """The newest version of every model."""
    scanned = found.scan()
    assert not scanned.problems, scanned.problems
    for model in scanned.models:
        yield model.versions[0]


def measure_model(
    version: VersionInfo, *, thread_count: int, round_count: int, skip: frozenset[str]
) -> list[Measured]:
    """Every denoiser that can be had against the eager one, and the best of either kind."""
    spec = _spec(version)
    eager = load_as(version, Denoiser(), thread_count=thread_count)
    wanted = made_by(eager, spec)
    measured: list[Measured] = []
    for denoiser in list(candidates())[1:]:
        if denoiser.label in skip:
            continue
        try:
            other, info = _loaded(version, denoiser, spec, thread_count)
        except (UnusableDenoiser, ModelUnavailable) as error:
            Console().print(f"{version.model.name}, {denoiser.label}: {error}")
            continue
        _images_per_s(other, info, spec)
        ratios = [
            _images_per_s(other, info, spec) / _images_per_s(eager, info, spec)
            for _ in range(round_count)
        ]
        found_db = psnr_db(made_by(other, spec), wanted)
        measured.append(
            Measured(
                goal="D",
                tier="C",
                metric=f"images a second, {version.model.name}, {denoiser.label} / torch eager",
                target=None,
                at_least=True,
                estimate=Estimate.of(ratios),
                details={
                    "model": version.model.name,
                    "parameter_count": sum(one.numel() for one in eager.module.parameters()),
                    "denoiser": denoiser.label,
                    "psnr_db": round(min(found_db, 99.0), 1),
                    "is_exact": _is_exact(denoiser),
                },
            )
        )
    return [*measured, *_best(version.model.name, measured)]


def _best(name: str, measured: list[Measured]) -> list[Measured]:
    """The quickest in FP32, and of all that come close enough, beside their goals."""
    goals = []
    for what, target, found in (
        ("best in fp32", 1.3, [one for one in measured if one.details["is_exact"]]),
        ("best with int8 or bf16", 1.5, [one for one in measured if _is_close(one)]),
    ):
        best = max(found, key=lambda one: one.estimate.median if one.estimate else 0, default=None)
        goals.append(
            Measured(
                goal="D",
                tier="C",
                metric=f"images a second, {name}, {what} / torch eager",
                target=target,
                at_least=True,
                estimate=best.estimate if best else None,
                details=best.details if best else {},
            )
        )
    return goals


def _is_close(one: Measured) -> bool:
    """Whether pictures are as close as docs/denoisers.md asks of int8 and bf16."""
    close: bool = one.details["psnr_db"] >= LEAST_PSNR_DB[ExportWeights.INT8]
    return close


def _is_exact(denoiser: Denoiser) -> bool:
    return denoiser == dataclasses.replace(Denoiser(), kind=denoiser.kind)


def _spec(version: VersionInfo) -> ImageSpec:
    info = version.model
    spec = trial_spec(
        info,
        info.defaults.width_px,
        info.defaults.height_px,
        prompt="a red circle on a blue background",
        guidance_scale=info.defaults.guidance_scale,
    )
    steps = WIDE_STEP_COUNT if info.name.startswith("wide") else info.defaults.step_count
    return dataclasses.replace(spec, step_count=steps, reproducibility=Reproducibility.TOLERANCE)


def _loaded(
    version: VersionInfo, denoiser: Denoiser, spec: ImageSpec, thread_count: int
) -> tuple[AnyFamilyModel, ModelInfo]:
    """A model with another denoiser, exported if need be and warm."""
    if denoiser.kind.is_exported and denoiser.compute is Dtype.FP32:
        export_denoiser(
            version, denoiser.kind, denoiser.weights, spec=spec, thread_count=thread_count
        )
    info = dataclasses.replace(
        version.model,
        denoiser=denoiser,
        reproducibility=Reproducibility.TOLERANCE,
        max_batch_size=MAX_ROWS,
    )
    model = load_as(version, denoiser, thread_count=thread_count)
    compile_ahead(model, info)
    model.end_warm_up()
    return model, info


def _images_per_s(model: AnyFamilyModel, info: ModelInfo, spec: ImageSpec) -> float:
    """Requests that all wait, through the worker's own loop."""
    reports: list[Report] = []
    loop = step_loop(model, reports.append, max_batch_size=info.max_batch_size)
    for seed in range(IMAGE_COUNT):
        job = Job(job_id=str(seed), spec=dataclasses.replace(spec, seeds=(seed,)))
        loop.post(SubmitJob(job))
    started_s = time.perf_counter()
    loop.run_to_end()
    duration_s = time.perf_counter() - started_s
    failures = [one.error for one in reports if isinstance(one, JobFailed)]
    assert not failures, failures
    return IMAGE_COUNT / duration_s


def main() -> None:
    """Measures, prints one table, keeps the figures as JSON."""
    parser = argparse.ArgumentParser(prog="bench.denoisers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--model", action="append", help="of which to measure; all by default")
    parser.add_argument("--skip", action="append", default=[], help="a denoiser not to measure")
    args = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    torch.set_num_threads(args.threads)
    commit = commit_now()
    measured: list[Measured] = []
    with tempfile.TemporaryDirectory() as folder:
        for version in versions(repository(Path(folder))):
            if args.model and version.model.name not in args.model:
                continue
            found = measure_model(
                version,
                thread_count=args.threads,
                round_count=3 if args.quick else 8,
                skip=frozenset(args.skip),
            )
            show(found)
            measured += found
    print(f"-> {keep(measured, tiers='d', quick=args.quick, commit=commit)}")


if __name__ == "__main__":
    main()
