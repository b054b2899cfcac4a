"""FLUX.2 klein against the stock pipeline, alone and at each level shared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinInpaintPipeline

from darkroom_server.backends.diffusers.families.flux2_klein import Flux2KleinStepModel
from darkroom_server.backends.diffusers.pictures import picture
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import FillSpec, ImageSpec, Pixels, Reproducibility, Task
from tests.parity.shared import (
    assert_equal_among_any_neighbours,
    assert_within_tolerance,
    shared_exactly,
    staggered,
    stepped,
)
from tests.parity.test_sdxl_steps import image_spec
from tests.parity.tiny_flux2 import random_klein

#: Sizes of reference images, of which none is a multiple of the model's.
ONE = (72, 97)
THREE = (ONE, (64, 80), (130, 64))
SCHEDULERS = ("FlowMatchEulerDiscreteScheduler",)


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tokenizer")
    return {
        "base": random_klein(folder),
        "distilled": random_klein(folder, is_distilled=True),
        "bf16": random_klein(folder).to(torch.bfloat16),
    }


def step_model(pipeline: Any) -> Flux2KleinStepModel:
    return Flux2KleinStepModel(
        pipeline, allowed_schedulers=SCHEDULERS, prompts=PromptCache(max_bytes=1 << 20)
    )


def spec_of(**changes: Any) -> ImageSpec:
    return image_spec(**({"scheduler": SCHEDULERS[0], "negative_prompt": None} | changes))


def edit(*sizes: tuple[int, int], **changes: Any) -> dict[str, Any]:
    """A request with reference images of these widths and heights."""
    images = tuple(
        noisy_picture(width, height, number) for number, (width, height) in enumerate(sizes)
    )
    return {"task": Task.EDIT, "reference_images": images, **changes}


def noisy_picture(width_px: int, height_px: int, number: int) -> Pixels:
    generator = np.random.default_rng(number)
    content = generator.integers(0, 256, 3 * width_px * height_px, np.uint8).tobytes()
    return Pixels(width_px, height_px, 3, content)


def filled(**changes: Any) -> dict[str, Any]:
    """A request to repaint the right half of noise, all of which is the model's."""
    image = noisy_picture(64, 64, 9)
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 27:] = 255
    strength = changes.pop("strength", 1.0)
    fill = FillSpec(
        image=image,
        mask=Pixels(64, 64, 1, mask.tobytes()),
        strength=strength,
        preserve_unmasked=False,
    )
    return {"task": Task.FILL, "fill": fill, "width_px": 64, "height_px": 64, **changes}


def stock_fill(pipeline: Any, spec: ImageSpec, fill: FillSpec) -> np.ndarray:
    stock = Flux2KleinInpaintPipeline(
        **pipeline.components, is_distilled=pipeline.config.is_distilled
    )
    made = stock(
        image=picture(fill.image),
        mask_image=picture(fill.mask),
        prompt=spec.prompt,
        strength=fill.strength,
        num_inference_steps=spec.step_count,
        guidance_scale=spec.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(spec.seeds[0]),
    )
    return np.asarray(made.images[0])


def stock(pipeline: Any, spec: ImageSpec) -> np.ndarray:
    if spec.fill is not None:
        return stock_fill(pipeline, spec, spec.fill)
    made = pipeline(
        image=[picture(one) for one in spec.reference_images] or None,
        prompt=spec.prompt,
        width=spec.width_px,
        height=spec.height_px,
        num_inference_steps=spec.step_count,
        guidance_scale=spec.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(spec.seeds[0]),
    )
    return np.asarray(made.images[0])


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        pytest.param("base", edit(ONE), id="one-reference"),
        pytest.param("bf16", edit(ONE), id="one-reference-bf16"),
        pytest.param("base", edit(*THREE), id="three-references"),
        pytest.param("distilled", edit(*THREE, step_count=2), id="three-references-distilled"),
        pytest.param("distilled", edit((1100, 1030), ONE, step_count=1), id="over-a-megapixel"),
        pytest.param("base", filled(), id="fill"),
        pytest.param("base", filled(strength=0.6, step_count=4), id="fill-in-part"),
        pytest.param("bf16", filled(strength=0.5, step_count=5), id="fill-bf16"),
        pytest.param("distilled", filled(step_count=2), id="fill-distilled"),
        pytest.param("base", {"width_px": 96, "height_px": 48, "seeds": (0,)}, id="wide"),
        pytest.param("base", {"guidance_scale": 1.0, "step_count": 7}, id="without-guidance"),
        pytest.param("distilled", {"step_count": 1, "prompt": ""}, id="distilled"),
        pytest.param("bf16", {}, id="bf16"),
    ],
)
def test_alone_it_equals_stock(
    pipelines: dict[str, Any], name: str, changes: dict[str, Any]
) -> None:
    spec = spec_of(**changes)
    made = stepped(step_model(pipelines[name]), spec)
    np.testing.assert_array_equal(made, stock(pipelines[name], spec))


def mixed(level: Reproducibility) -> list[ImageSpec]:
    changes: list[dict[str, Any]] = [
        {"seeds": (1,), "step_count": 2, "guidance_scale": 2.0},
        {"seeds": (2,), "step_count": 3, "prompt": "a blue house"},
        {"seeds": (3,), "step_count": 3},
        edit(ONE, seeds=(4,), step_count=3),
        edit(ONE, seeds=(5,), step_count=2, guidance_scale=2.0),
        edit(*THREE, seeds=(6,), step_count=2),
        edit(*THREE, seeds=(7,), step_count=2),
        filled(seeds=(8,), step_count=2),
        filled(seeds=(9,), step_count=3, strength=0.6),
    ]
    return [spec_of(**one, reproducibility=level) for one in changes]


def test_exact_steps_are_shared_and_bit_equal_to_stock(
    pipelines: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = mixed(Reproducibility.EXACT)
    made = shared_exactly(step_model(pipelines["base"]), specs, monkeypatch)
    for one, spec in zip(made, specs, strict=True):
        np.testing.assert_array_equal(one, stock(pipelines["base"], spec))


def test_shared_steps_stay_within_the_tolerance(pipelines: dict[str, Any]) -> None:
    specs = mixed(Reproducibility.TOLERANCE)
    for made, spec in zip(staggered(step_model(pipelines["base"]), specs), specs, strict=True):
        assert_within_tolerance(made, stock(pipelines["base"], spec))


@pytest.mark.slow
def test_exact_images_have_equal_bytes_across_neighbour_schedules(
    pipelines: dict[str, Any],
) -> None:
    specs = mixed(Reproducibility.EXACT)
    assert_equal_among_any_neighbours(lambda: step_model(pipelines["base"]), specs)
