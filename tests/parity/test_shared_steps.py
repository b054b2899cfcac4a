"""Requests that share denoising steps against the stock pipelines, at each level of exactness."""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom_server.backends.diffusers.families.sdxl import SdxlStepModel
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec, Job, JobImage, Reproducibility, Task
from darkroom_server.worker.loop import WorkerLoop
from darkroom_server.worker.messages import JobReport, Report, SubmitJob
from tests.parity.test_sdxl_steps import SCHEDULERS, fill_spec, image_spec, made_by_stock
from tests.parity.tiny_pipelines import random_sdxl

#: Bytes of 255 by which a shared step's image may differ from the stock pipeline's, and how many
#: of its values may differ at all.
TOLERATED, TOLERATED_SHARE = 2, 0.02

MIXED: list[dict[str, Any]] = [
    *({"scheduler": name, "seeds": (k,)} for k, name in enumerate(SCHEDULERS)),
    {"guidance_scale": 1.0, "step_count": 7, "seeds": (20,)},
    {"guidance_scale": 9.0, "step_count": 2, "seeds": (21,), "negative_prompt": "blue"},
    {"task": Task.FILL, "fill": fill_spec(), "seeds": (22,)},
    {"task": Task.FILL, "fill": fill_spec(strength=0.6), "seeds": (23,), "step_count": 6},
]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.set_num_threads(1)
    return random_sdxl(tmp_path_factory.mktemp("tokenizer"))


def served(pipeline: Any, specs: list[ImageSpec], *, ticks_between: list[int]) -> list[np.ndarray]:
    """The images of requests that arrive so many ticks after each other."""
    reports: list[Report] = []
    model = SdxlStepModel(
        pipeline, allowed_schedulers=SCHEDULERS, prompts=PromptCache(max_bytes=1 << 20)
    )
    loop = WorkerLoop(model, reports.append, max_batch_size=8)
    for number, (spec, ticks) in enumerate(zip(specs, ticks_between, strict=True)):
        loop.post(SubmitJob(Job(job_id=str(number), spec=spec)))
        for _ in range(ticks):
            loop.tick()
    loop.run_to_end()
    images = {
        report.job_id: np.asarray(Image.open(io.BytesIO(report.event.content)))
        for report in reports
        if isinstance(report, JobReport) and isinstance(report.event, JobImage)
    }
    return [images[str(number)] for number in range(len(specs))]


def mixed(level: Reproducibility) -> list[ImageSpec]:
    return [image_spec(**changes, reproducibility=level) for changes in MIXED]


def stock(pipeline: Any, specs: list[ImageSpec]) -> list[np.ndarray]:
    kept = pipeline.scheduler
    made = [made_by_stock(pipeline, spec) for spec in specs]
    pipeline.scheduler = kept
    return made


def test_solo_is_bit_equal_to_stock_among_any_neighbours(pipeline: Any) -> None:
    specs = mixed(Reproducibility.SOLO)
    made = served(pipeline, specs, ticks_between=[k % 3 for k in range(len(specs))])
    for one, wanted in zip(made, stock(pipeline, specs), strict=True):
        np.testing.assert_array_equal(one, wanted)


def test_shared_steps_stay_within_the_tolerance(pipeline: Any) -> None:
    specs = mixed(Reproducibility.TOLERANCE)
    made = served(pipeline, specs, ticks_between=[k % 3 for k in range(len(specs))])
    for one, wanted in zip(made, stock(pipeline, specs), strict=True):
        difference = np.abs(one.astype(int) - wanted.astype(int))
        assert difference.max() <= TOLERATED
        assert (difference > 0).mean() <= TOLERATED_SHARE


def test_bucket_exact_has_equal_bytes_across_neighbour_schedules(pipeline: Any) -> None:
    specs = mixed(Reproducibility.BUCKET_EXACT)
    alone = [served(pipeline, [spec], ticks_between=[0])[0] for spec in specs]
    for number in range(20):
        rng = random.Random(number)
        order = rng.sample(range(len(specs)), rng.randint(2, 5))
        ticks = [rng.randint(0, 4) for _ in order]
        made = served(pipeline, [specs[k] for k in order], ticks_between=ticks)
        for one, k in zip(made, order, strict=True):
            np.testing.assert_array_equal(one, alone[k])
