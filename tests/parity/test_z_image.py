"""Z-Image against the stock pipelines, alone and at each level shared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ZImageImg2ImgPipeline

from darkroom_server.backends.diffusers.families.z_image import ZImageStepModel
from darkroom_server.backends.diffusers.pictures import picture
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec, Reproducibility, Task
from tests.parity.shared import (
    assert_equal_among_any_neighbours,
    assert_within_tolerance,
    shared_exactly,
    staggered,
    stepped,
)
from tests.parity.test_sdxl_steps import image_spec, source_spec
from tests.parity.tiny_z_image import random_z_image

SCHEDULERS = ("FlowMatchEulerDiscreteScheduler",)
#: Of another number of tokens than the usual one when padded to 32, as the transformer pads them.
LONG_PROMPT = "a red circle on a blue square, before a house with a green door"


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tokenizer")
    return {"fp32": random_z_image(folder), "bf16": random_z_image(folder).to(torch.bfloat16)}


def step_model(pipeline: Any) -> ZImageStepModel:
    return ZImageStepModel(
        pipeline, allowed_schedulers=SCHEDULERS, prompts=PromptCache(max_bytes=1 << 20)
    )


def spec_of(**changes: Any) -> ImageSpec:
    return image_spec(**({"scheduler": SCHEDULERS[0]} | changes))


def stock(pipeline: Any, spec: ImageSpec) -> np.ndarray:
    arguments: dict[str, Any] = {
        "prompt": spec.prompt,
        "negative_prompt": spec.negative_prompt,
        "width": spec.width_px,
        "height": spec.height_px,
        "num_inference_steps": spec.step_count,
        "guidance_scale": spec.guidance_scale,
        "generator": torch.Generator("cpu").manual_seed(spec.seeds[0]),
    }
    if spec.source is not None:
        pipeline = ZImageImg2ImgPipeline(**pipeline.components)
        pipeline.set_progress_bar_config(disable=True)
        arguments |= {"image": picture(spec.source.image), "strength": spec.source.strength}
    return np.asarray(pipeline(**arguments).images[0])


@pytest.mark.parametrize("name", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="plain"),
        pytest.param({"negative_prompt": LONG_PROMPT, "step_count": 7}, id="negative-prompt"),
        pytest.param({"guidance_scale": 0.0}, id="without-guidance"),
        pytest.param({"guidance_scale": 0.5}, id="little-guidance"),
        pytest.param({"width_px": 96, "height_px": 48, "seeds": (0,)}, id="wide"),
        pytest.param({"step_count": 1, "prompt": "", "negative_prompt": ""}, id="one-step"),
    ],
)
def test_alone_it_equals_stock(
    pipelines: dict[str, Any], name: str, changes: dict[str, Any]
) -> None:
    spec = spec_of(**changes)
    made = stepped(step_model(pipelines[name]), spec)
    np.testing.assert_array_equal(made, stock(pipelines[name], spec))


@pytest.mark.parametrize("strength", [1.0, 0.6, 0.3])
def test_image_to_image_equals_stock(pipelines: dict[str, Any], strength: float) -> None:
    source = source_spec(strength=strength)
    spec = spec_of(task=Task.IMAGE_TO_IMAGE, source=source, step_count=5)
    made = stepped(step_model(pipelines["fp32"]), spec)
    np.testing.assert_array_equal(made, stock(pipelines["fp32"], spec))


def mixed(level: Reproducibility) -> list[ImageSpec]:
    changes: list[dict[str, Any]] = [
        {"seeds": (1,), "step_count": 2, "guidance_scale": 2.0},
        {"seeds": (2,), "prompt": "a blue house", "negative_prompt": "red"},
        {"seeds": (3,), "task": Task.IMAGE_TO_IMAGE, "source": source_spec(strength=0.7)},
        {"seeds": (4,), "guidance_scale": 0.0},
        {"seeds": (5,), "step_count": 3, "guidance_scale": 0.0, "prompt": "a star"},
        {"seeds": (6,), "step_count": 3, "prompt": LONG_PROMPT},
        {"seeds": (7,), "step_count": 3, "prompt": LONG_PROMPT[:-1]},
    ]
    return [spec_of(**one, reproducibility=level) for one in changes]


def test_exact_steps_are_shared_and_bit_equal_to_stock(
    pipelines: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = mixed(Reproducibility.EXACT)
    made = shared_exactly(step_model(pipelines["fp32"]), specs, monkeypatch)
    for one, spec in zip(made, specs, strict=True):
        np.testing.assert_array_equal(one, stock(pipelines["fp32"], spec))


def test_shared_steps_stay_within_the_tolerance(pipelines: dict[str, Any]) -> None:
    specs = mixed(Reproducibility.TOLERANCE)
    for made, spec in zip(staggered(step_model(pipelines["fp32"]), specs), specs, strict=True):
        assert_within_tolerance(made, stock(pipelines["fp32"], spec))


@pytest.mark.slow
def test_exact_images_have_equal_bytes_across_neighbour_schedules(
    pipelines: dict[str, Any],
) -> None:
    specs = mixed(Reproducibility.EXACT)
    assert_equal_among_any_neighbours(lambda: step_model(pipelines["fp32"]), specs)
