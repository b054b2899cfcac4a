"""The FLUX step models against the stock pipelines: alone bit-equal, and at each level shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchLCMScheduler, FluxFillPipeline, FluxImg2ImgPipeline

from darkroom_server.backends.diffusers.families.flux import FluxStepModel
from darkroom_server.backends.diffusers.families.flux_fill import FluxFillStepModel
from darkroom_server.backends.diffusers.pictures import picture
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import (
    FillSpec,
    ImageSpec,
    Pixels,
    PreviewSpec,
    Reproducibility,
    SourceSpec,
    Task,
)
from tests.parity.device import draws_on_the_processor
from tests.parity.shared import (
    assert_equal_among_any_neighbours,
    assert_within_tolerance,
    shared_exactly,
    staggered,
    stepped,
)
from tests.parity.test_sdxl_steps import fill_spec, image_spec
from tests.parity.tiny_flux import random_flux, random_flux_fill

SCHEDULERS = ("FlowMatchEulerDiscreteScheduler",)
MODELS = ["schnell", "dev", "fill"]
#: Of another autoencoder, and of a dtype in which the order of casts shows.
VARIANTS = ["schnell-small-vae", "fill-small-vae", "dev-bf16", "fill-bf16"]
#: Tokens that the stock pipeline is to pad prompts to: the tokenizer's own limit.
TOKENS = 32

PIXELS = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
SOURCE = Pixels(64, 64, 3, PIXELS.tobytes())


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tokenizer")
    return {
        "schnell": random_flux(folder, guided=False, dynamic=False),
        "dev": random_flux(folder, guided=True),
        "fill": random_flux_fill(folder),
        "schnell-small-vae": random_flux(folder, guided=False, dynamic=False, small_vae=True),
        "fill-small-vae": random_flux_fill(folder, small_vae=True),
        "dev-bf16": random_flux(folder, guided=True).to(torch.bfloat16),
        "fill-bf16": random_flux_fill(folder).to(torch.bfloat16),
    }


def build(pipeline: Any) -> FluxStepModel:
    kind = FluxFillStepModel if isinstance(pipeline, FluxFillPipeline) else FluxStepModel
    return kind(pipeline, allowed_schedulers=SCHEDULERS, prompts=PromptCache(max_bytes=1 << 20))


def flux_spec(name: str, **changes: Any) -> ImageSpec:
    fills = name.startswith("fill")
    fill: dict[str, Any] = {"task": Task.FILL, "fill": fill_spec()} if fills else {}
    return image_spec(**({"scheduler": SCHEDULERS[0]} | fill | changes))


def stock(pipeline: Any, spec: ImageSpec) -> np.ndarray:
    arguments: dict[str, Any] = {
        "prompt": spec.prompt,
        "width": spec.width_px,
        "height": spec.height_px,
        "num_inference_steps": spec.step_count,
        "guidance_scale": spec.guidance_scale,
        "max_sequence_length": TOKENS,
        # Torch's own: pipelines leave the draws of a scheduler to it.
        "generator": torch.manual_seed(spec.seeds[0]),
    }
    if spec.fill is not None:
        arguments |= {
            "image": picture(spec.fill.image),
            "mask_image": picture(spec.fill.mask),
            "strength": spec.fill.strength,
        }
    if spec.source is not None:
        pipeline = FluxImg2ImgPipeline(**pipeline.components)
        pipeline.set_progress_bar_config(disable=True)
        arguments |= {"image": picture(spec.source.image), "strength": spec.source.strength}
    return np.asarray(pipeline(**arguments).images[0])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="plain"),
        pytest.param({"guidance_scale": 30.0, "step_count": 7}, id="guidance"),
        pytest.param({"width_px": 96, "height_px": 48, "seeds": (0,)}, id="wide"),
        pytest.param({"step_count": 1, "prompt": ""}, id="one-step"),
    ],
)
def test_alone_it_equals_stock(
    pipelines: dict[str, Any], name: str, changes: dict[str, Any]
) -> None:
    spec = flux_spec(name, **changes)
    np.testing.assert_array_equal(
        stepped(build(pipelines[name]), spec), stock(pipelines[name], spec)
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_alone_equal_stock(pipelines: dict[str, Any], name: str) -> None:
    spec = flux_spec(name, step_count=7, guidance_scale=3.3)
    np.testing.assert_array_equal(
        stepped(build(pipelines[name]), spec), stock(pipelines[name], spec)
    )


@pytest.mark.parametrize("strength", [0.9, 0.6, 0.3])
def test_fill_of_a_lesser_strength_equals_stock(pipelines: dict[str, Any], strength: float) -> None:
    spec = flux_spec("fill", fill=fill_spec(strength=strength))
    np.testing.assert_array_equal(
        stepped(build(pipelines["fill"]), spec), stock(pipelines["fill"], spec)
    )


@pytest.mark.parametrize("name", ["schnell", "dev", "schnell-small-vae", "dev-bf16"])
@pytest.mark.parametrize("strength", [1.0, 0.6, 0.3])
def test_image_to_image_equals_stock(pipelines: dict[str, Any], name: str, strength: float) -> None:
    source = SourceSpec(image=SOURCE, strength=strength)
    spec = flux_spec(name, task=Task.IMAGE_TO_IMAGE, source=source)
    np.testing.assert_array_equal(
        stepped(build(pipelines[name]), spec), stock(pipelines[name], spec)
    )


@draws_on_the_processor
@pytest.mark.parametrize("name", ["schnell", "dev", "fill"])
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_a_folder_that_comes_with_lcm_equals_stock(
    tmp_path: Path, name: str, strength: float
) -> None:
    fills = name == "fill"
    pipeline = random_flux_fill(tmp_path) if fills else random_flux(tmp_path, guided=name == "dev")
    pipeline.scheduler = FlowMatchLCMScheduler(shift=3.0)
    changes: dict[str, Any] = {"fill": fill_spec(strength=strength)}
    if not fills:
        source = SourceSpec(image=SOURCE, strength=strength)
        changes = {"task": Task.IMAGE_TO_IMAGE, "source": source}
    spec = flux_spec(name, **changes | {"scheduler": "FlowMatchLCMScheduler", "step_count": 5})
    np.testing.assert_array_equal(stepped(build(pipeline), spec), stock(pipeline, spec))


def mixed(name: str, level: Reproducibility) -> list[ImageSpec]:
    changes: list[dict[str, Any]] = [
        {"seeds": (1,), "step_count": 2, "guidance_scale": 2.0},
        {"seeds": (2,), "prompt": "a blue house"},
        {"seeds": (3,), "step_count": 7, "guidance_scale": 30.0},
        {"seeds": (4,), "width_px": 96},
        {"seeds": (5,), "step_count": 3, "prompt": ""},
    ]
    if name == "fill":
        changes.append({"seeds": (6,), "fill": fill_spec(strength=0.5)})
    else:
        source = SourceSpec(image=SOURCE, strength=0.7)
        changes.append({"seeds": (6,), "task": Task.IMAGE_TO_IMAGE, "source": source})
    return [flux_spec(name, **one, reproducibility=level) for one in changes]


@pytest.mark.parametrize("name", MODELS)
def test_exact_steps_are_shared_and_bit_equal_to_stock(
    pipelines: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = mixed(name, Reproducibility.EXACT)
    made = shared_exactly(build(pipelines[name]), specs, monkeypatch)
    for one, spec in zip(made, specs, strict=True):
        np.testing.assert_array_equal(one, stock(pipelines[name], spec))


@pytest.mark.parametrize("name", MODELS)
def test_shared_steps_stay_within_the_tolerance(pipelines: dict[str, Any], name: str) -> None:
    specs = mixed(name, Reproducibility.TOLERANCE)
    for made, spec in zip(staggered(build(pipelines[name]), specs), specs, strict=True):
        assert_within_tolerance(made, stock(pipelines[name], spec))


@pytest.mark.parametrize("name", MODELS)
def test_exact_images_have_equal_bytes_across_neighbour_schedules(
    pipelines: dict[str, Any], name: str
) -> None:
    specs = mixed(name, Reproducibility.EXACT)
    assert_equal_among_any_neighbours(lambda: build(pipelines[name]), specs)


@pytest.mark.parametrize(("name", "token_count"), [("schnell", 256), ("dev", 512), ("fill", 512)])
def test_prompts_are_padded_to_the_length_of_the_model(
    pipelines: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str, token_count: int
) -> None:
    monkeypatch.setattr(pipelines[name].tokenizer_2, "model_max_length", 1000)
    assert build(pipelines[name]).encode(flux_spec(name)).context.shape[1] == token_count


@pytest.mark.parametrize("name", MODELS)
def test_the_last_preview_is_of_the_final_latents(pipelines: dict[str, Any], name: str) -> None:
    model = build(pipelines[name])
    spec = flux_spec(name, width_px=96, preview=PreviewSpec(interval_step_count=1))
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


def test_a_fill_model_refuses_a_request_without_an_image(pipelines: dict[str, Any]) -> None:
    model = build(pipelines["fill"])
    spec = flux_spec("schnell")
    with pytest.raises(ValueError, match="without an image"):
        model.begin(spec, model.encode(spec), 0)


def test_unmasked_pixels_are_kept_when_asked(pipelines: dict[str, Any]) -> None:
    fill = fill_spec(preserve_unmasked=True)
    assert isinstance(fill, FillSpec)
    made = stepped(build(pipelines["fill"]), flux_spec("fill", fill=fill))
    np.testing.assert_array_equal(made[:, :24], PIXELS[:, :24])
