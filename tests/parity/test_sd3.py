"""Stable Diffusion 3 against the stock pipelines, alone and at each level shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchLCMScheduler, StableDiffusion3Img2ImgPipeline

from darkroom_server.backends.diffusers.families.sd3 import Sd3StepModel
from darkroom_server.backends.diffusers.loader import load_model
from darkroom_server.backends.diffusers.pictures import picture
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec, PreviewSpec, Reproducibility, Task
from darkroom_server.domain.models import Placement
from tests.parity.device import draws_on_the_processor, loads_onto_the_processor
from tests.parity.shared import (
    assert_equal_among_any_neighbours,
    assert_within_tolerance,
    shared_exactly,
    staggered,
    stepped,
)
from tests.parity.test_sdxl_steps import image_spec, source_spec
from tests.parity.test_whole_request import version_of
from tests.parity.tiny_sd3 import random_sd3

SCHEDULERS = ("FlowMatchEulerDiscreteScheduler",)
MODELS = ["with-t5", "without-t5", "dynamic"]


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tokenizer")
    return {
        "with-t5": random_sd3(folder),
        "without-t5": random_sd3(folder, has_t5=False),
        "dynamic": random_sd3(folder, dynamic=True),
        "bf16": random_sd3(folder).to(torch.bfloat16),
    }


def build(pipeline: Any) -> Sd3StepModel:
    return Sd3StepModel(
        pipeline, allowed_schedulers=SCHEDULERS, prompts=PromptCache(max_bytes=1 << 20)
    )


def sd3_spec(**changes: Any) -> ImageSpec:
    return image_spec(**({"scheduler": SCHEDULERS[0]} | changes))


def stock(pipeline: Any, spec: ImageSpec) -> np.ndarray:
    arguments: dict[str, Any] = {
        "prompt": spec.prompt,
        "negative_prompt": spec.negative_prompt,
        "width": spec.width_px,
        "height": spec.height_px,
        "num_inference_steps": spec.step_count,
        "guidance_scale": spec.guidance_scale,
        # Torch's own: pipelines leave the draws of a scheduler to it.
        "generator": torch.manual_seed(spec.seeds[0]),
    }
    if spec.source is not None:
        pipeline = StableDiffusion3Img2ImgPipeline(**pipeline.components)
        pipeline.set_progress_bar_config(disable=True)
        arguments |= {"image": picture(spec.source.image), "strength": spec.source.strength}
    return np.asarray(pipeline(**arguments).images[0])


@pytest.mark.parametrize("name", [*MODELS, "bf16"])
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="plain"),
        pytest.param({"negative_prompt": "blue", "step_count": 7}, id="negative-prompt"),
        pytest.param({"guidance_scale": 1.0}, id="without-guidance"),
        pytest.param({"width_px": 96, "height_px": 48, "seeds": (0,)}, id="wide"),
        pytest.param({"step_count": 1, "prompt": "", "negative_prompt": ""}, id="one-step"),
    ],
)
def test_alone_it_equals_stock(
    pipelines: dict[str, Any], name: str, changes: dict[str, Any]
) -> None:
    spec = sd3_spec(**changes)
    np.testing.assert_array_equal(
        stepped(build(pipelines[name]), spec), stock(pipelines[name], spec)
    )


@pytest.mark.parametrize("name", [*MODELS, "bf16"])
@pytest.mark.parametrize("strength", [1.0, 0.6, 0.3])
def test_image_to_image_equals_stock(pipelines: dict[str, Any], name: str, strength: float) -> None:
    source = source_spec(strength=strength)
    spec = sd3_spec(task=Task.IMAGE_TO_IMAGE, source=source, step_count=5)
    np.testing.assert_array_equal(
        stepped(build(pipelines[name]), spec), stock(pipelines[name], spec)
    )


@draws_on_the_processor
@pytest.mark.parametrize(
    "changes", [{}, {"task": Task.IMAGE_TO_IMAGE, "source": source_spec(strength=0.6)}]
)
def test_a_folder_that_comes_with_lcm_equals_stock(tmp_path: Path, changes: dict[str, Any]) -> None:
    pipeline = random_sd3(tmp_path)
    pipeline.scheduler = FlowMatchLCMScheduler(shift=3.0)
    spec = sd3_spec(scheduler="FlowMatchLCMScheduler", step_count=5, **changes)
    np.testing.assert_array_equal(stepped(build(pipeline), spec), stock(pipeline, spec))


def mixed(level: Reproducibility) -> list[ImageSpec]:
    source = source_spec(strength=0.7)
    changes: list[dict[str, Any]] = [
        {"seeds": (1,), "step_count": 2, "guidance_scale": 2.0},
        {"seeds": (2,), "prompt": "a blue house", "negative_prompt": "red"},
        {"seeds": (3,), "step_count": 7, "guidance_scale": 1.0},
        {"seeds": (4,), "width_px": 96},
        {"seeds": (5,), "step_count": 3, "prompt": ""},
        {"seeds": (6,), "task": Task.IMAGE_TO_IMAGE, "source": source},
    ]
    return [sd3_spec(**one, reproducibility=level) for one in changes]


@pytest.mark.parametrize("name", MODELS)
def test_exact_steps_are_shared_and_bit_equal_to_stock(
    pipelines: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = mixed(Reproducibility.EXACT)
    made = shared_exactly(build(pipelines[name]), specs, monkeypatch)
    for one, spec in zip(made, specs, strict=True):
        np.testing.assert_array_equal(one, stock(pipelines[name], spec))


@pytest.mark.parametrize("name", MODELS)
def test_shared_steps_stay_within_the_tolerance(pipelines: dict[str, Any], name: str) -> None:
    specs = mixed(Reproducibility.TOLERANCE)
    for made, spec in zip(staggered(build(pipelines[name]), specs), specs, strict=True):
        assert_within_tolerance(made, stock(pipelines[name], spec))


@pytest.mark.parametrize("name", ["with-t5", "dynamic"])
def test_exact_images_have_equal_bytes_across_neighbour_schedules(
    pipelines: dict[str, Any], name: str
) -> None:
    specs = mixed(Reproducibility.EXACT)
    assert_equal_among_any_neighbours(lambda: build(pipelines[name]), specs)


@loads_onto_the_processor
@pytest.mark.parametrize("name", ["with-t5", "without-t5"])
def test_a_folder_is_found_loaded_and_run(
    pipelines: dict[str, Any], tmp_path: Path, name: str
) -> None:
    version = version_of(tmp_path, pipelines[name])
    model = load_model(version, Placement(), thread_count=1, prompts=PromptCache(max_bytes=0))
    assert isinstance(model, Sd3StepModel)
    spec = sd3_spec()
    np.testing.assert_array_equal(stepped(model, spec), stock(pipelines[name], spec))


def test_the_last_preview_is_of_the_final_latents(pipelines: dict[str, Any]) -> None:
    model = build(pipelines["with-t5"])
    spec = sd3_spec(width_px=96, preview=PreviewSpec(interval_step_count=1))
    one = model.begin(spec, model.encode(spec), 0)
    previews = []
    while not one.finished:
        model.scatter(one, model.denoise(model.gather([one])), 0)
        previews.append(model.painter([one])()[0])
    one.denoised = None
    assert previews[-1].shape == (8, 12, 3)
    # The last step goes all the way to what it aims at, up to rounding.
    assert np.abs(previews[-1].astype(int) - model.painter([one])()[0].astype(int)).max() <= 1
    assert (previews[0] != previews[-1]).any()
