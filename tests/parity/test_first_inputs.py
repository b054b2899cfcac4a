"""What a denoiser is first given of an image: the tensor of the stock pipeline, memory layout too.

In another layout convolutions round otherwise, so that pictures differ in some cases only.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    FluxImg2ImgPipeline,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
)

from darkroom_server.backends.diffusers.families.flux import FluxStepModel
from darkroom_server.backends.diffusers.families.flux_fill import FluxFillStepModel
from darkroom_server.backends.diffusers.families.sd import SdStepModel
from darkroom_server.backends.diffusers.families.sd3 import Sd3StepModel
from darkroom_server.backends.diffusers.families.sdxl import SdxlStepModel
from darkroom_server.backends.diffusers.pictures import picture
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec, Task
from tests.parity.device import DEVICE
from tests.parity.test_sdxl_steps import fill_spec, image_spec, source_spec
from tests.parity.tiny_flux import random_flux, random_flux_fill
from tests.parity.tiny_pipelines import random_sd, random_sdxl
from tests.parity.tiny_sd3 import random_sd3


def with_small_vae(pipeline: Any) -> Any:
    """The autoencoder that keeps the layout of pictures, channels last, to its latents."""
    torch.manual_seed(0)
    pipeline.vae = AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
    ).to(DEVICE)
    return pipeline


#: A pipeline, its family, the stock pipeline of the task (None: the same), and arguments of it.
Case = tuple[Callable[[Path], Any], Any, Any, dict[str, Any]]
SIZE: dict[str, Any] = {"width": 64, "height": 64}
TOKENS: dict[str, Any] = {"max_sequence_length": 32}
SOURCES: dict[str, Case] = {
    "sd": (random_sd, SdStepModel, StableDiffusionImg2ImgPipeline, {}),
    "sdxl": (random_sdxl, SdxlStepModel, StableDiffusionXLImg2ImgPipeline, {}),
    "sd-small-vae": (
        lambda folder: with_small_vae(random_sd(folder)),
        SdStepModel,
        StableDiffusionImg2ImgPipeline,
        {},
    ),
    "sdxl-small-vae": (
        lambda folder: with_small_vae(random_sdxl(folder)),
        SdxlStepModel,
        StableDiffusionXLImg2ImgPipeline,
        {},
    ),
    "sdxl-statistics": (
        lambda folder: random_sdxl(folder, has_statistics=True),
        SdxlStepModel,
        StableDiffusionXLImg2ImgPipeline,
        {},
    ),
    "sd3": (random_sd3, Sd3StepModel, StableDiffusion3Img2ImgPipeline, SIZE),
    "flux": (
        lambda folder: random_flux(folder, guided=True),
        FluxStepModel,
        FluxImg2ImgPipeline,
        SIZE | TOKENS,
    ),
}
FILLS: dict[str, Case] = {
    "sd": (random_sd, SdStepModel, StableDiffusionInpaintPipeline, SIZE),
    "sdxl": (random_sdxl, SdxlStepModel, StableDiffusionXLInpaintPipeline, SIZE),
    "sd-small-vae": (
        lambda folder: with_small_vae(random_sd(folder)),
        SdStepModel,
        StableDiffusionInpaintPipeline,
        SIZE,
    ),
    "sdxl-small-vae": (
        lambda folder: with_small_vae(random_sdxl(folder)),
        SdxlStepModel,
        StableDiffusionXLInpaintPipeline,
        SIZE,
    ),
    "sd-nine-channels": (
        lambda folder: random_sd(folder, unet_channels=9),
        SdStepModel,
        None,
        SIZE,
    ),
    "flux-fill": (random_flux_fill, FluxFillStepModel, None, SIZE | TOKENS),
}


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("name", SOURCES)
def test_of_an_image_to_image(tmp_path: Path, name: str, strength: float) -> None:
    source = source_spec(strength=strength)
    arguments = {"image": picture(source.image), "strength": strength}
    assert_first_inputs_equal(
        SOURCES[name], tmp_path, {"task": Task.IMAGE_TO_IMAGE, "source": source}, arguments
    )


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("name", FILLS)
def test_of_a_fill(tmp_path: Path, name: str, strength: float) -> None:
    fill = fill_spec(strength=strength)
    arguments = {
        "image": picture(fill.image),
        "mask_image": picture(fill.mask),
        "strength": strength,
    }
    assert_first_inputs_equal(FILLS[name], tmp_path, {"task": Task.FILL, "fill": fill}, arguments)


def assert_first_inputs_equal(
    case: Case, folder: Path, changes: dict[str, Any], arguments: dict[str, Any]
) -> None:
    make, family, stock, more = case
    pipeline = make(folder)
    spec = image_spec(
        scheduler=type(pipeline.scheduler).__name__, step_count=5, guidance_scale=1.0, **changes
    )
    wanted = first_input(pipeline, lambda: run_stock(pipeline, stock, spec, arguments | more))
    model = family(pipeline, allowed_schedulers=(), prompts=PromptCache(max_bytes=0))

    def step() -> None:
        one = model.begin(spec, model.encode(spec), 0)
        model.denoise(model.gather([one]))

    made = first_input(pipeline, step)
    assert torch.equal(made, wanted)
    assert made.stride() == wanted.stride()


def run_stock(pipeline: Any, kind: Any, spec: ImageSpec, arguments: dict[str, Any]) -> None:
    if kind is not None:
        taken = inspect.signature(kind.__init__).parameters
        parts = {name: part for name, part in pipeline.components.items() if name in taken}
        if "requires_safety_checker" in taken:
            parts["requires_safety_checker"] = False
        pipeline = kind(**parts)
    pipeline.set_progress_bar_config(disable=True)
    pipeline(
        prompt=spec.prompt,
        num_inference_steps=spec.step_count,
        guidance_scale=spec.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(spec.seeds[0]),
        output_type="latent",
        **arguments,
    )


class _Seen(Exception):
    """Ends a run once the denoiser has been called."""


def first_input(pipeline: Any, run: Callable[[], None]) -> torch.Tensor:
    seen: list[torch.Tensor] = []

    def keep(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.append(next(iter((*arguments, *(named[key] for key in NAMES if key in named)))))
        raise _Seen

    module = getattr(pipeline, "unet", None) or pipeline.transformer
    handle = module.register_forward_pre_hook(keep, with_kwargs=True)
    with pytest.raises(_Seen):
        run()
    handle.remove()
    return seen[0]


#: Of a UNet's latents, and of a transformer's.
NAMES = ("sample", "hidden_states")
