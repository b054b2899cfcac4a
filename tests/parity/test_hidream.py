"""HiDream-I1 against the stock pipeline, alone and at each level shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FlowMatchLCMScheduler,
    HiDreamImagePipeline,
    UniPCMultistepScheduler,
)

from darkroom_server.backends.diffusers.families.hidream import HiDreamStepModel
from darkroom_server.backends.diffusers.loader import load_model
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec, PreviewSpec, Reproducibility
from darkroom_server.domain.models import Placement
from tests.parity.device import draws_on_the_processor, loads_onto_the_processor
from tests.parity.shared import assert_within_tolerance, staggered, stepped
from tests.parity.test_sdxl_steps import image_spec
from tests.parity.test_whole_request import version_of
from tests.parity.tiny_hidream import EDGE_PX, random_hidream

SCHEDULERS = {
    # As the full model is published, then the distilled ones.
    "unipc": UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    ),
    "lcm": FlowMatchLCMScheduler(shift=6.0),
    "euler": FlowMatchEulerDiscreteScheduler(shift=3.0),
    "dynamic": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
}

#: The same, to be tried on a GPU too but for one.
NAMES = [
    pytest.param(name, marks=draws_on_the_processor) if name == "lcm" else name
    for name in SCHEDULERS
]


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tokenizer")
    made = {name: random_hidream(folder, scheduler) for name, scheduler in SCHEDULERS.items()}
    made["bf16"] = random_hidream(folder, SCHEDULERS["unipc"]).to(torch.bfloat16)
    return made


def build(pipeline: Any) -> HiDreamStepModel:
    return HiDreamStepModel(pipeline, allowed_schedulers=(), prompts=PromptCache(max_bytes=1 << 20))


def hidream_spec(pipeline: Any, **changes: Any) -> ImageSpec:
    return image_spec(scheduler=type(pipeline.scheduler).__name__, **changes)


def stock(pipeline: Any, spec: ImageSpec) -> np.ndarray:
    """One generator for all draws: the pipeline leaves those of a scheduler to torch's own."""
    return np.asarray(
        pipeline(
            prompt=spec.prompt,
            negative_prompt=spec.negative_prompt,
            width=spec.width_px,
            height=spec.height_px,
            num_inference_steps=spec.step_count,
            guidance_scale=spec.guidance_scale,
            generator=torch.manual_seed(spec.seeds[0]),
        ).images[0]
    )


@pytest.mark.parametrize("name", [*NAMES, "bf16"])
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="plain"),
        pytest.param({"negative_prompt": "blue", "step_count": 7}, id="negative-prompt"),
        pytest.param({"guidance_scale": 1.0}, id="without-guidance"),
        pytest.param({"width_px": 96, "height_px": 32, "seeds": (0,)}, id="wide"),
        pytest.param({"step_count": 1, "prompt": "", "negative_prompt": ""}, id="one-step"),
    ],
)
def test_alone_it_equals_stock(
    pipelines: dict[str, Any], name: str, changes: dict[str, Any]
) -> None:
    spec = hidream_spec(pipelines[name], **changes)
    np.testing.assert_array_equal(
        stepped(build(pipelines[name]), spec), stock(pipelines[name], spec)
    )


@pytest.mark.parametrize(("width_px", "height_px"), [(32, 32), (48, 64), (16, 128)])
def test_the_size_is_the_one_asked_for(
    pipelines: dict[str, Any], width_px: int, height_px: int
) -> None:
    spec = hidream_spec(pipelines["euler"], width_px=width_px, height_px=height_px, step_count=2)
    assert stepped(build(pipelines["euler"]), spec).shape == (height_px, width_px, 3)


def mixed(pipeline: Any, level: Reproducibility) -> list[ImageSpec]:
    changes: list[dict[str, Any]] = [
        {"seeds": (1,), "step_count": 2, "guidance_scale": 2.0},
        {"seeds": (2,), "prompt": "a blue house", "negative_prompt": "red"},
        {"seeds": (3,), "step_count": 7, "guidance_scale": 1.0},
        {"seeds": (4,), "width_px": 96, "height_px": 32},
        {"seeds": (5,), "step_count": 3, "prompt": ""},
        {"seeds": (6,), "width_px": 96, "height_px": 32, "prompt": "a star"},
    ]
    return [hidream_spec(pipeline, **one, reproducibility=level) for one in changes]


@pytest.mark.parametrize("name", NAMES)
def test_exact_is_bit_equal_to_stock_among_any_neighbours(
    pipelines: dict[str, Any], name: str
) -> None:
    specs = mixed(pipelines[name], Reproducibility.EXACT)
    for made, spec in zip(staggered(build(pipelines[name]), specs), specs, strict=True):
        np.testing.assert_array_equal(made, stock(pipelines[name], spec))


@pytest.mark.parametrize("name", NAMES)
def test_shared_steps_stay_within_the_tolerance(pipelines: dict[str, Any], name: str) -> None:
    specs = mixed(pipelines[name], Reproducibility.TOLERANCE)
    for made, spec in zip(staggered(build(pipelines[name]), specs), specs, strict=True):
        assert_within_tolerance(made, stock(pipelines[name], spec))


@loads_onto_the_processor
@pytest.mark.parametrize("name", ["unipc", "lcm"])
def test_a_folder_is_found_loaded_and_run(
    pipelines: dict[str, Any], tmp_path: Path, name: str
) -> None:
    version = version_of(tmp_path, pipelines[name])
    limits = version.model.limits
    assert (version.model.defaults.width_px, limits.max_pixel_count) == (EDGE_PX, EDGE_PX**2)
    model = load_model(version, Placement(), thread_count=1, prompts=PromptCache(max_bytes=0))
    assert isinstance(model, HiDreamStepModel)
    spec = hidream_spec(pipelines[name])
    # Loaded as well, and its weights copied: the last bits of its CLIP encoders are other when they
    # are built, or when weights that are mapped from a file lie on other boundaries.
    loaded = HiDreamImagePipeline.from_pretrained(version.path)
    for part in loaded.components.values():
        for weight in part.parameters() if isinstance(part, torch.nn.Module) else ():
            weight.data = weight.data.clone()
    loaded.default_sample_size = EDGE_PX // 8
    np.testing.assert_array_equal(stepped(model, spec), stock(loaded, spec))


def test_prompts_are_encoded_once(pipelines: dict[str, Any]) -> None:
    prompts = PromptCache(max_bytes=1 << 20)
    model = HiDreamStepModel(pipelines["euler"], allowed_schedulers=(), prompts=prompts)
    spec = hidream_spec(pipelines["euler"])
    first, again = model.encode(spec), model.encode(spec)
    assert (prompts.miss_count, prompts.hit_count) == (2, 2)
    assert torch.equal(first.llama, again.llama)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_last_preview_is_of_the_final_latents(pipelines: dict[str, Any], name: str) -> None:
    model = build(pipelines[name])
    spec = hidream_spec(
        pipelines[name], width_px=96, height_px=32, preview=PreviewSpec(interval_step_count=1)
    )
    one = model.begin(spec, model.encode(spec), 0)
    previews = []
    while not one.finished:
        model.scatter(one, model.denoise(model.gather([one])), 0)
        previews.append(model.painter([one])()[0])
    one.denoised = None
    assert previews[-1].shape == (4, 12, 3)
    # The last step goes all the way to what it aims at, up to rounding.
    assert np.abs(previews[-1].astype(int) - model.painter([one])()[0].astype(int)).max() <= 1
    assert (previews[0] != previews[-1]).any()
