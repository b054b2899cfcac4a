"""On a GPU: compiled steps, CUDA graphs and offloaded weights draw what eager steps draw."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from darkroom_server.backends.diffusers.exporting.export import LEAST_PSNR_DB
from darkroom_server.backends.diffusers.exporting.parity import psnr_db
from darkroom_server.backends.diffusers.loader import load_model
from darkroom_server.backends.diffusers.step_model import DiffusersStepModel
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec, Reproducibility
from darkroom_server.domain.memory import MemoryProfile, Offload
from darkroom_server.domain.models import (
    Denoiser,
    DenoiserKind,
    DeviceKind,
    Dtype,
    ExportWeights,
    ModelInfo,
    Placement,
    VersionInfo,
)
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.worker.compile_ahead import compile_ahead
from darkroom_server.worker.trial import trial_spec
from tests.parity.shared import staggered
from tests.parity.tiny_flux import random_flux
from tests.parity.tiny_pipelines import random_sdxl

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

FAMILIES = {"sdxl": random_sdxl, "flux-dev": lambda folder: random_flux(folder, guided=True)}


@pytest.fixture(params=FAMILIES)
def version(request: pytest.FixtureRequest, tmp_path: Path) -> VersionInfo:
    pipeline = FAMILIES[request.param](tmp_path / "words")
    pipeline.save_pretrained(tmp_path / "repository" / request.param / "1")
    [found] = ModelRepository(tmp_path / "repository").scan().models
    return found.versions[0]


def loaded(version: VersionInfo, **changes: Any) -> DiffusersStepModel:
    info = dataclasses.replace(version.model, dtype=Dtype.FP32, **changes)
    model = load_model(
        dataclasses.replace(version, model=info),
        Placement(DeviceKind.GPU, 0),
        thread_count=1,
        prompts=PromptCache(max_bytes=1 << 20),
    )
    assert isinstance(model, DiffusersStepModel)
    return model


def requests_of(info: ModelInfo) -> list[ImageSpec]:
    """Of different lengths, with and without guidance, that share steps."""
    spec = trial_spec(info, 64, 64, prompt="a house", guidance_scale=3.0)
    spec = dataclasses.replace(spec, reproducibility=Reproducibility.TOLERANCE)
    return [
        dataclasses.replace(spec, seeds=(seed,), step_count=3 + seed % 3, guidance_scale=guidance)
        for seed, guidance in enumerate((3.0, 1.0, 5.0, 2.0, 1.0, 7.0))
    ]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("cuda_graphs", [False, True], ids=["compiled", "cuda-graphs"])
def test_compiled_steps_draw_what_eager_ones_draw(version: VersionInfo, cuda_graphs: bool) -> None:
    denoiser = Denoiser(
        kind=DenoiserKind.TORCH_COMPILE, compiled_sizes=((64, 64),), cuda_graphs=cuda_graphs
    )
    info = dataclasses.replace(
        version.model, denoiser=denoiser, reproducibility=Reproducibility.TOLERANCE
    )
    model = loaded(version, denoiser=denoiser)
    compile_ahead(model, info)
    model.end_warm_up()
    asked = requests_of(info)
    made, wanted = staggered(model, asked), staggered(loaded(version), asked)
    assert model.compile_counts().graph_count > 0
    assert model.compile_counts().recompile_count == 0
    for one, by_eager in zip(made, wanted, strict=True):
        assert psnr_db(one, by_eager) >= LEAST_PSNR_DB[ExportWeights.FP32]


@pytest.mark.parametrize("offload", Offload)
def test_offloaded_weights_draw_the_same(version: VersionInfo, offload: Offload) -> None:
    asked = requests_of(version.model)
    made = staggered(loaded(version, memory=MemoryProfile(offload=offload)), asked)
    for one, wanted in zip(made, staggered(loaded(version), asked), strict=True):
        np.testing.assert_array_equal(one, wanted)
