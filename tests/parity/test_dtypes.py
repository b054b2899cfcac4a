"""Half precision as the configuration asks for it: SDXL against stock pipelines, and loading."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from darkroom_server.backends.diffusers.loader import load_model
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import Task
from darkroom_server.domain.models import Dtype, Placement, VersionInfo
from darkroom_server.repository.repository import ModelRepository
from tests.parity.shared import stepped
from tests.parity.test_sdxl_steps import (
    SCHEDULERS,
    fill_spec,
    image_spec,
    made_by_steps,
    made_by_stock,
    source_spec,
)
from tests.parity.tiny_pipelines import random_sdxl

HALVES = [pytest.param(torch.bfloat16, id="bf16"), pytest.param(torch.float16, id="fp16")]
TASKS = [
    pytest.param({}, id="text-to-image"),
    pytest.param({"guidance_scale": 1.0}, id="without-guidance"),
    pytest.param({"task": Task.FILL, "fill": fill_spec(strength=0.6)}, id="fill"),
    pytest.param({"task": Task.FILL, "fill": fill_spec()}, id="fill-from-noise"),
    pytest.param(
        {"task": Task.IMAGE_TO_IMAGE, "source": source_spec(strength=0.6)}, id="image-to-image"
    ),
]


def half_sdxl(folder: Path, dtype: torch.dtype, *, force_upcast: bool) -> Any:
    torch.set_num_threads(1)
    pipeline = random_sdxl(folder)
    pipeline.vae.register_to_config(force_upcast=force_upcast)
    return pipeline.to(dtype)


def version_of(root: Path, pipeline: Any, dtype: Dtype) -> VersionInfo:
    pipeline.save_pretrained(root / "m" / "1")
    [model] = ModelRepository(root).scan().models
    [version] = model.versions
    return dataclasses.replace(version, model=dataclasses.replace(version.model, dtype=dtype))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("force_upcast", [True, False], ids=["upcast", "as-it-is"])
@pytest.mark.parametrize("changes", TASKS)
def test_in_half_precision_sdxl_equals_stock(
    tmp_path: Path, dtype: torch.dtype, force_upcast: bool, changes: dict[str, Any]
) -> None:
    pipeline = half_sdxl(tmp_path, dtype, force_upcast=force_upcast)
    spec = image_spec(**changes)
    made = made_by_steps(pipeline, spec)
    assert pipeline.vae.dtype == dtype
    np.testing.assert_array_equal(made, made_by_stock(pipeline, spec))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_in_half_precision_every_scheduler_equals_stock(
    tmp_path: Path, dtype: torch.dtype, scheduler: str
) -> None:
    pipeline = half_sdxl(tmp_path, dtype, force_upcast=True)
    spec = image_spec(scheduler=scheduler)
    np.testing.assert_array_equal(made_by_steps(pipeline, spec), made_by_stock(pipeline, spec))


@pytest.mark.parametrize(
    ("asked", "in_memory"),
    [
        pytest.param(Dtype.FP32, Dtype.FP32, id="fp32"),
        pytest.param(Dtype.FP16, Dtype.FP16, id="fp16"),
        pytest.param(Dtype.BF16, Dtype.BF16, id="bf16"),
    ],
)
def test_a_folder_is_loaded_in_the_type_that_is_asked_for(
    tmp_path: Path, asked: Dtype, in_memory: Dtype
) -> None:
    pipeline = random_sdxl(tmp_path / "words")
    version = version_of(tmp_path / "repository", pipeline, asked)
    model = load_model(version, Placement(), thread_count=1, prompts=PromptCache(max_bytes=0))
    assert model.dtype() is in_memory
    full_bytes = sum(
        tensor.numel() * 4
        for part in pipeline.components.values()
        if isinstance(part, torch.nn.Module)
        for tensor in part.parameters()
    )
    share = model.memory_bytes() / full_bytes
    assert share == pytest.approx(1.0 if asked is Dtype.FP32 else 0.5, abs=0.05)
    assert stepped(model, image_spec()).shape == (64, 64, 3)
