"""Previews of latents against the VAE's own pictures of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from darkroom_server.backends.diffusers.families.sdxl import SdxlStepModel
from darkroom_server.backends.diffusers.previews import LatentColours, latent_statistics
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec, PreviewSpec
from tests.parity.test_sdxl_steps import SCHEDULERS, image_spec
from tests.parity.tiny_pipelines import random_sdxl

MODEL = Path(__file__).parents[2] / "model_repo" / "tiny-sdxl" / "1"


@pytest.fixture(scope="module")
def model() -> SdxlStepModel:
    torch.set_num_threads(1)
    pipeline = StableDiffusionXLPipeline.from_pretrained(MODEL, torch_dtype=torch.float32)
    return SdxlStepModel(pipeline, allowed_schedulers=SCHEDULERS, prompts=PromptCache(max_bytes=0))


def test_statistics_of_the_latents_do_not_change_colours(tmp_path: Path) -> None:
    plain = random_sdxl(tmp_path).vae
    with_statistics = random_sdxl(tmp_path, has_statistics=True).vae
    latents = torch.randn((1, 4, 8, 8), generator=torch.manual_seed(0))
    statistics = latent_statistics(with_statistics, latents)
    assert statistics is not None
    mean, std = statistics
    with torch.inference_mode():
        (wanted,) = LatentColours(plain).paint(latents * 0.5)
        (made,) = LatentColours(with_statistics).paint((latents - mean) * 0.5 / std)
    assert wanted.std() > 5
    assert np.abs(made.astype(int) - wanted.astype(int)).max() <= 1


def test_images_are_painted_together_as_they_are_alone(tmp_path: Path) -> None:
    latents = torch.randn((3, 4, 8, 8), generator=torch.manual_seed(0))
    with torch.inference_mode():
        colours = LatentColours(random_sdxl(tmp_path).vae)
        together = colours.paint(latents)
        alone = [colours.paint(one[None])[0] for one in latents]
    assert len(together) == 3
    np.testing.assert_allclose(together, alone, atol=1)


def previewed(model: SdxlStepModel, spec: ImageSpec) -> tuple[list[np.ndarray], np.ndarray]:
    """The preview after each step, and the final image averaged down to the preview's size."""
    one = model.begin(spec, model.encode(spec), 0)
    previews = []
    while not one.finished:
        model.scatter(one, model.denoise(model.gather([one])), 0)
        previews.append(model.painter([one])()[0])
    image = model.decode(one).reshape(16, 16, 16, 16, 3).mean(axis=(1, 3))
    return previews, image


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_previews_come_to_look_like_the_image(model: SdxlStepModel, scheduler: str) -> None:
    spec = image_spec(
        prompt="a red circle on a blue background",
        width_px=256,
        height_px=256,
        step_count=12,
        guidance_scale=2.5,
        scheduler=scheduler,
        preview=PreviewSpec(interval_step_count=1),
    )
    previews, image = previewed(model, spec)
    assert previews[0].shape == (16, 16, 3)
    assert previews[0].dtype == np.uint8
    errors = [float(np.abs(one.astype(float) - image).mean()) for one in previews]
    assert errors[-1] < 16
    assert errors[len(errors) // 2] < 48
