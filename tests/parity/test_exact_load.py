"""Crowds of mixed requests at EXACT: every image bit-equal to the stock pipeline's, alone.

A short form by default; `make exact` draws a thousand images. A crowd mixes tasks, sizes, steps,
guidance, schedulers and prompts, comes staggered, and some of it is cancelled on the way. Beside
it the same crowd at TOLERANCE, where everything is shared: exact steps must be nearly as full.
"""

from __future__ import annotations

import dataclasses
import io
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom_server.backends.base import StepModel
from darkroom_server.domain.jobs import ImageSpec, Job, JobImage, Reproducibility, Task
from darkroom_server.worker.messages import CancelJob, JobReport, Report, SubmitJob
from darkroom_server.worker.proving import Prover
from darkroom_server.worker.step_runner import step_loop
from tests.parity import (
    crowds,
    test_flux,
    test_flux2_klein,
    test_sd,
    test_sd3,
    test_sdxl_steps,
    test_shared_steps,
    test_z_image,
)
from tests.parity.shared import MAX_BATCH_SIZE, proved
from tests.parity.tiny_flux import random_flux, random_flux_fill
from tests.parity.tiny_flux2 import random_klein
from tests.parity.tiny_pipelines import random_sd, random_sdxl
from tests.parity.tiny_sd3 import random_sd3
from tests.parity.tiny_z_image import random_z_image

#: Images of a crowd.
IMAGE_COUNT = int(os.environ.get("DARKROOM_EXACT_IMAGES", "12"))
LEAST_COUNT = 6
#: Of rows a step at TOLERANCE, what exact steps have at least.
LEAST_SHARE = 0.8
CANCELLED_SHARE = 0.1
SIZES_PX = ((64, 64), (64, 64), (96, 64))
#: Of a crowd of larger ones, whose proofs and steps take many times as long: so much of the images.
LARGER_PX, LARGER_SHARE = ((128, 128), (256, 256)), 0.2

Mixed = Callable[[Reproducibility], list[ImageSpec]]


@dataclass(frozen=True)
class Case:
    """A pipeline, what drives it, what the stock one makes, and requests of every kind."""

    pipeline: Callable[[Path], Any]
    build: Callable[[Any], StepModel]
    stock: Callable[[Any, ImageSpec], np.ndarray]
    mixed: Mixed
    thread_count: int = 1
    sizes_px: tuple[tuple[int, int], ...] = SIZES_PX
    share: float = 1.0

    @property
    def image_count(self) -> int:
        """Images of its crowd."""
        return max(LEAST_COUNT, int(self.share * IMAGE_COUNT))


def of_sd(name: str, pipeline: Callable[[Path], Any]) -> Case:
    return Case(pipeline, test_sd.build, test_sd.stock, lambda level: test_sd.mixed(name, level))


def of_flux(name: str, pipeline: Callable[[Path], Any]) -> Case:
    return Case(
        pipeline, test_flux.build, test_flux.stock, lambda level: test_flux.mixed(name, level)
    )


def of_sdxl(pipeline: Callable[[Path], Any]) -> Case:
    return Case(
        pipeline,
        test_shared_steps.build,
        test_sdxl_steps.made_by_stock,
        test_shared_steps.mixed,
    )


def of_sd3(pipeline: Callable[[Path], Any]) -> Case:
    return Case(pipeline, test_sd3.build, test_sd3.stock, test_sd3.mixed)


def larger(case: Case) -> Case:
    return dataclasses.replace(case, sizes_px=LARGER_PX, share=LARGER_SHARE)


BF16 = torch.bfloat16
CASES = {
    "sdxl": of_sdxl(random_sdxl),
    "sdxl-2-threads": dataclasses.replace(of_sdxl(random_sdxl), thread_count=2),
    "sdxl-bf16": of_sdxl(lambda folder: random_sdxl(folder).to(BF16)),
    "sd": of_sd("epsilon", random_sd),
    "sd-v": of_sd("v_prediction", lambda folder: random_sd(folder, prediction="v_prediction")),
    "sd-inpainting": of_sd("nine-channels", lambda folder: random_sd(folder, unet_channels=9)),
    "sd-bf16": of_sd("epsilon", lambda folder: random_sd(folder).to(BF16)),
    "sd3": of_sd3(random_sd3),
    "sd3-bf16": of_sd3(lambda folder: random_sd3(folder).to(BF16)),
    "flux-schnell": of_flux(
        "schnell", lambda folder: random_flux(folder, guided=False, dynamic=False)
    ),
    "flux-dev-2-threads": dataclasses.replace(
        of_flux("dev", lambda folder: random_flux(folder, guided=True)), thread_count=2
    ),
    "flux-dev": of_flux("dev", lambda folder: random_flux(folder, guided=True)),
    "flux-dev-bf16": of_flux("dev", lambda folder: random_flux(folder, guided=True).to(BF16)),
    "flux2-klein": Case(
        random_klein, test_flux2_klein.step_model, test_flux2_klein.stock, test_flux2_klein.mixed
    ),
    "flux2-klein-bf16": Case(
        lambda folder: random_klein(folder).to(BF16),
        test_flux2_klein.step_model,
        test_flux2_klein.stock,
        test_flux2_klein.mixed,
    ),
    "z-image": Case(
        random_z_image, test_z_image.step_model, test_z_image.stock, test_z_image.mixed
    ),
    "z-image-bf16": Case(
        lambda folder: random_z_image(folder).to(BF16),
        test_z_image.step_model,
        test_z_image.stock,
        test_z_image.mixed,
    ),
    "flux-fill": of_flux("fill", random_flux_fill),
    "flux-fill-bf16": of_flux("fill", lambda folder: random_flux_fill(folder).to(BF16)),
}


CASES |= {
    "sdxl-larger": larger(CASES["sdxl"]),
    "sdxl-bf16-larger": larger(CASES["sdxl-bf16"]),
    "flux-schnell-larger": larger(CASES["flux-schnell"]),
}
#: The families of `crowds.py`, a smaller crowd of each.
CROWD_SHARE = 0.5


def of_crowd(name: str) -> Case:
    made: dict[str, Any] = {}

    def pipeline(folder: Path) -> Any:
        made["pipeline"] = crowds.small_pipeline(name, folder)
        return made["pipeline"]

    return Case(
        pipeline,
        lambda pipeline: crowds.step_model(name, pipeline),
        lambda pipeline, spec: crowds.stock(name, pipeline, spec),
        lambda level: crowds.mixed(name, made["pipeline"], level),
        share=CROWD_SHARE,
    )


CASES |= {name: of_crowd(name) for name, one in crowds.CROWDS.items() if not one.has_own_tests}
#: Larger pictures are slow; and threads of a small UNet wait for each other at hundreds of layers.
SLOW = {"sdxl-2-threads", "flux2-klein-bf16", "z-image-bf16", *crowds.CROWDS} | {
    name for name, case in CASES.items() if case.sizes_px == LARGER_PX
}


def crowd(case: Case, rng: random.Random) -> list[ImageSpec]:
    """Requests drawn from those of every kind, each with a seed of its own."""
    kinds = case.mixed(Reproducibility.EXACT)
    drawn = []
    for seed in range(case.image_count):
        one = kinds[seed] if seed < len(kinds) else rng.choice(kinds)
        changes: dict[str, Any] = {"seeds": (seed,), "step_count": rng.randint(2, 6)}
        if one.task is Task.TEXT_TO_IMAGE:
            changes["width_px"], changes["height_px"] = rng.choice(case.sizes_px)
        if rng.random() < 0.3:
            changes["guidance_scale"] = rng.choice([1.0, 3.0, 7.5])
        drawn.append(dataclasses.replace(one, **changes))
    return drawn


@dataclass
class Served:
    """Images by job, and how many rows each step had."""

    images: dict[int, np.ndarray]
    rows: list[int]

    @property
    def mean_rows(self) -> float:
        """Rows of a step, in the mean."""
        return sum(self.rows) / len(self.rows)


def serve(model: StepModel, specs: Sequence[ImageSpec], prover: Prover, seed: int) -> Served:
    """A crowd that comes staggered, of which some are cancelled."""
    rng = random.Random(seed)
    reports: list[Report] = []
    # Time stands still: how full steps are hangs on who is there, not on how fast this machine is.
    loop = step_loop(
        model, reports.append, max_batch_size=MAX_BATCH_SIZE, prover=prover, clock=lambda: 0.0
    )
    rows: list[int] = []
    denoise = model.denoise

    def watched(inputs: Any) -> Any:
        outputs = denoise(inputs)
        rows.append(len(outputs))
        return outputs

    model.denoise = watched  # type: ignore[method-assign]
    try:
        for number, spec in enumerate(specs):
            loop.post(SubmitJob(Job(job_id=str(number), spec=spec)))
            if rng.random() < CANCELLED_SHARE:
                loop.post(CancelJob(str(rng.choice(range(number + 1)))))
            for _ in range(rng.choice([0, 0, 1, 2])):
                loop.tick()
        loop.run_to_end()
    finally:
        model.denoise = denoise  # type: ignore[method-assign]
    images = {
        int(report.job_id): np.asarray(Image.open(io.BytesIO(report.event.content)))
        for report in reports
        if isinstance(report, JobReport) and isinstance(report.event, JobImage)
    }
    return Served(images, rows)


@pytest.fixture
def case(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    """A case, and as many threads as it has."""
    crowds.see_small_references(monkeypatch)
    before_count = torch.get_num_threads()
    torch.set_num_threads(CASES[name].thread_count)
    yield CASES[name]
    torch.set_num_threads(before_count)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CASES],
)
def test_a_crowd_has_the_bytes_of_each_alone(
    name: str, case: Case, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    rng = random.Random(name)
    pipeline = case.pipeline(tmp_path)
    model = case.build(pipeline)
    specs = crowd(case, rng)
    prover = proved(model, specs)
    exact = serve(model, specs, prover, seed=1)
    laxer = [dataclasses.replace(one, reproducibility=Reproducibility.TOLERANCE) for one in specs]
    tolerant = serve(model, laxer, prover, seed=1)
    for number, made in exact.images.items():
        np.testing.assert_array_equal(made, case.stock(pipeline, specs[number]), str(specs[number]))
    assert len(exact.images) >= 0.7 * len(specs)
    record_property("image_count", len(exact.images))
    record_property("mean_rows", round(exact.mean_rows, 2))
    record_property("mean_rows_tolerance", round(tolerant.mean_rows, 2))
    print(
        f"{name}: {len(exact.images)} images bit-equal, {exact.mean_rows:.2f} rows a step "
        f"({tolerant.mean_rows:.2f} at TOLERANCE)"
    )
    assert exact.mean_rows >= LEAST_SHARE * tolerant.mean_rows
