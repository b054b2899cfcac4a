"""SDXL requests that share denoising steps against the stock pipelines, at each level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from darkroom_server.backends.diffusers.families.sdxl import SdxlStepModel
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec, Reproducibility, Task
from tests.parity.shared import (
    assert_equal_among_any_neighbours,
    assert_within_tolerance,
    shared_exactly,
    staggered,
)
from tests.parity.test_sdxl_steps import (
    SCHEDULERS,
    fill_spec,
    image_spec,
    made_by_stock,
    source_spec,
)
from tests.parity.tiny_pipelines import random_sdxl

MIXED: list[dict[str, Any]] = [
    *({"scheduler": name, "seeds": (k,)} for k, name in enumerate(SCHEDULERS)),
    {"guidance_scale": 1.0, "step_count": 7, "seeds": (20,)},
    {"guidance_scale": 9.0, "step_count": 2, "seeds": (21,), "negative_prompt": "blue"},
    {"task": Task.FILL, "fill": fill_spec(), "seeds": (22,)},
    {"task": Task.FILL, "fill": fill_spec(strength=0.6), "seeds": (23,), "step_count": 6},
    {"task": Task.IMAGE_TO_IMAGE, "source": source_spec(strength=0.7), "seeds": (24,)},
]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.set_num_threads(1)
    return random_sdxl(tmp_path_factory.mktemp("tokenizer"))


def build(pipeline: Any) -> SdxlStepModel:
    return SdxlStepModel(
        pipeline, allowed_schedulers=SCHEDULERS, prompts=PromptCache(max_bytes=1 << 20)
    )


def mixed(level: Reproducibility) -> list[ImageSpec]:
    return [image_spec(**changes, reproducibility=level) for changes in MIXED]


def stock(pipeline: Any, specs: list[ImageSpec]) -> list[np.ndarray]:
    kept = pipeline.scheduler
    made = [made_by_stock(pipeline, spec) for spec in specs]
    pipeline.scheduler = kept
    return made


def test_exact_steps_are_shared_and_bit_equal_to_stock(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = mixed(Reproducibility.EXACT)
    made = shared_exactly(build(pipeline), specs, monkeypatch)
    for one, wanted in zip(made, stock(pipeline, specs), strict=True):
        np.testing.assert_array_equal(one, wanted)


def test_shared_steps_stay_within_the_tolerance(pipeline: Any) -> None:
    specs = mixed(Reproducibility.TOLERANCE)
    made = staggered(build(pipeline), specs)
    for one, wanted in zip(made, stock(pipeline, specs), strict=True):
        assert_within_tolerance(one, wanted)


def test_exact_images_have_equal_bytes_across_neighbour_schedules(pipeline: Any) -> None:
    specs = mixed(Reproducibility.EXACT)
    assert_equal_among_any_neighbours(lambda: build(pipeline), specs)
