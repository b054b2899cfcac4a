"""What a fill of FLUX.2 klein has besides: the image stands beside the latents, and is kept.

In the order of diffusers' `Flux2KleinInpaintPipeline`, which has the parts of the one that draws.
Sizes are made as asked; that pipeline first scales images down to a megapixel, so that images are
equal up to there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import Flux2KleinInpaintPipeline

from darkroom_server.backends.diffusers.pictures import picture
from darkroom_server.backends.diffusers.schedule import Schedule
from darkroom_server.domain.jobs import FillSpec, ImageSpec


@dataclass(frozen=True, slots=True)
class References:
    """The reference of an image: packed latents [1, tokens, channels], ids [1, tokens, 4]."""

    latents: torch.Tensor
    ids: torch.Tensor


@dataclass(frozen=True, slots=True)
class Repainting:
    """What is kept of the image, all packed [1, tokens, channels or 1], and what stands beside."""

    image: torch.Tensor
    noise: torch.Tensor
    mask: torch.Tensor
    beside: References

    def kept(self, latents: torch.Tensor, schedule: Schedule) -> torch.Tensor:
        """Latents after a step, with the image, noised for the next, where the mask is black."""
        image = self.image
        if not schedule.finished:
            timestep = torch.tensor([schedule.timestep])
            image = schedule.scheduler.scale_noise(image, timestep, self.noise)
        blended: torch.Tensor = (1 - self.mask) * image + self.mask * latents
        return blended


class KleinFill:
    """Begins fills, with the stock pipeline's own processors and methods."""

    def __init__(self, pipeline: Any, device: torch.device) -> None:
        self._pipeline = Flux2KleinInpaintPipeline(
            **pipeline.components, is_distilled=pipeline.config.is_distilled
        )
        self._device = device

    def encoded(self, fill: FillSpec, spec: ImageSpec, dtype: torch.dtype) -> torch.Tensor:
        """The image's latents: [1, channels, height, width]; nothing is drawn for them."""
        image = self._pipeline.image_processor.preprocess(
            picture(fill.image), spec.height_px, spec.width_px, resize_mode="default"
        )
        latents: torch.Tensor = self._pipeline._encode_vae_image(
            image=image.to(device=self._device, dtype=dtype), generator=None
        )
        return latents

    def repainting(
        self, fill: FillSpec, spec: ImageSpec, image: torch.Tensor, noise: torch.Tensor
    ) -> Repainting:
        """What a fill of the image, begun with the noise, keeps; both not packed."""
        pipeline, dtype = self._pipeline, noise.dtype
        latents, ids = pipeline.prepare_image_latents([image], 1, None, self._device, dtype)
        size = {"height": spec.height_px, "width": spec.width_px}
        mask = pipeline.mask_processor.preprocess(
            picture(fill.mask), **size, resize_mode="default", crops_coords=None
        )
        return Repainting(
            image=pipeline._pack_latents(image),
            noise=pipeline._pack_latents(noise),
            mask=pipeline.prepare_mask_latents(
                mask, 1, 1, **size, dtype=dtype, device=self._device
            ),
            beside=References(latents, ids),
        )
