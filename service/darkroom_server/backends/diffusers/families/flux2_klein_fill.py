"""Fills of FLUX.2 klein: the image stands beside the latents, and what the mask leaves is kept.

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
from darkroom_server.domain.jobs import FillSpec, ImageSpec


@dataclass(frozen=True, slots=True)
class References:
    """What stands beside an image: packed latents [1, tokens, channels], ids [1, tokens, 4]."""

    latents: torch.Tensor
    ids: torch.Tensor


@dataclass(frozen=True, slots=True)
class Filled:
    """An image to fill, [1, channels, height, width], and its mask, packed [1, tokens, 1]."""

    image: torch.Tensor
    mask: torch.Tensor


class KleinFill:
    """Begins fills, with the stock pipeline's own processors and methods."""

    def __init__(self, pipeline: Any, device: torch.device) -> None:
        self._pipeline = Flux2KleinInpaintPipeline(
            **pipeline.components, is_distilled=pipeline.config.is_distilled
        )
        self._device = device

    def filled(self, fill: FillSpec, spec: ImageSpec, dtype: torch.dtype) -> Filled:
        """Nothing is drawn for the image."""
        pipeline, size = self._pipeline, {"height": spec.height_px, "width": spec.width_px}
        image = pipeline.image_processor.preprocess(
            picture(fill.image), **size, resize_mode="default"
        )
        mask = pipeline.mask_processor.preprocess(
            picture(fill.mask), **size, resize_mode="default", crops_coords=None
        )
        latents: torch.Tensor = pipeline._encode_vae_image(
            image=image.to(device=self._device, dtype=dtype), generator=None
        )
        return Filled(
            image=latents,
            mask=pipeline.prepare_mask_latents(
                mask, 1, 1, **size, dtype=dtype, device=self._device
            ),
        )

    def beside(self, filled: Filled, shown: list[torch.Tensor]) -> References:
        """The image itself, then what else is shown: [1, 3, height, width] each, -1 to 1."""
        latents, ids = self._pipeline.prepare_image_latents(
            [filled.image, *shown], 1, None, self._device, filled.image.dtype
        )
        return References(latents, ids)
