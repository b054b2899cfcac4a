"""Stable Diffusion 1 and 2, step by step: text to image, image to image, and filling.

In the order of diffusers' `StableDiffusionPipeline`, `StableDiffusionImg2ImgPipeline` and
`StableDiffusionInpaintPipeline`. What the UNet predicts, noise or velocity, the schedulers know.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import (
    AsymmetricAutoencoderKL,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)

from darkroom_server.backends.diffusers.families.unet import FillState, UnetStepModel
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What all images of a request share: `context` [rows, tokens, width]."""

    context: torch.Tensor


class SdStepModel(UnetStepModel[Conditioning]):
    """A loaded Stable Diffusion 1 or 2 pipeline as a `StepModel`."""

    def __init__(
        self,
        pipeline: StableDiffusionPipeline | StableDiffusionInpaintPipeline,
        *,
        allowed_schedulers: Sequence[str],
        prompts: PromptCache,
    ) -> None:
        fill_pipeline = (
            pipeline
            if isinstance(pipeline, StableDiffusionInpaintPipeline)
            else StableDiffusionInpaintPipeline(
                # A copy: the inpainting pipeline changes settings of an old scheduler's.
                **pipeline.components | {"scheduler": copy.deepcopy(pipeline.scheduler)},
                requires_safety_checker=pipeline.config.requires_safety_checker,
            )
        )
        super().__init__(
            pipeline, fill_pipeline, allowed_schedulers=allowed_schedulers, prompts=prompts
        )

    @torch.inference_mode()
    def encoded(self, spec: ImageSpec) -> Conditioning:
        """The text encoder; a negative prompt that is not given is an empty one."""
        context = self._text(spec.prompt)
        if self._is_guided(spec):
            context = torch.cat([self._text(spec.negative_prompt or ""), context])
        return Conditioning(context)

    def _text(self, text: str) -> torch.Tensor:
        """Hidden states [1, tokens, width] of one text."""

        def make() -> tuple[torch.Tensor]:
            context, _ = self._pipeline.encode_prompt(
                text,
                self._device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=False,
            )
            return (context,)

        (context,) = self._prompts.lookup(text, make)
        return context

    def to_image(self, latents: torch.Tensor) -> torch.Tensor:
        """Runs the VAE."""
        return self.decoder(latents / self.vae.config.scaling_factor)

    def finished_image(
        self, trajectory: DiffusersTrajectory[Conditioning, FillState]
    ) -> torch.Tensor:
        """Of a fill, an asymmetric decoder takes the image and the mask as well."""
        fill = trajectory.extra
        if fill is None or not isinstance(self.vae, AsymmetricAutoencoderKL):
            return super().finished_image(trajectory)
        decoded: torch.Tensor = self.vae.decode(
            trajectory.latents / self.vae.config.scaling_factor,
            image=fill.image,
            mask=fill.pixel_mask,
            return_dict=False,
        )[0]
        return decoded

    def objects_to(self, decoded: torch.Tensor) -> bool:
        """What the pipeline's safety checker says, if it has one. It may change its argument."""
        _, objections = self._pipeline.run_safety_checker(decoded, self._device, self._unet.dtype)
        return bool(objections and objections[0])
