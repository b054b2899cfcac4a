"""FLUX.1 Kontext, step by step: text to image, and edits of one reference image.

Operations in the order of diffusers' `FluxKontextPipeline`. A reference image stands beside the
latents, in the size of those that the model was trained with whose shape is nearest.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.pipelines.flux.pipeline_flux_img2img import retrieve_latents
from diffusers.pipelines.flux.pipeline_flux_kontext import PREFERRED_KONTEXT_RESOLUTIONS

from darkroom_server.backends.diffusers.families.flux import Conditioning, FluxStepModel
from darkroom_server.backends.diffusers.pictures import picture
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory
from darkroom_server.domain.jobs import ImageSpec, Pixels


@dataclass(frozen=True, slots=True)
class KontextConditioning(Conditioning):
    """With a reference image besides: packed latents [1, tokens, channels], and ids [tokens, 3]."""

    reference: torch.Tensor
    reference_ids: torch.Tensor


class FluxKontextStepModel(FluxStepModel):
    """A loaded FLUX.1 Kontext pipeline as a `StepModel`."""

    def batch_key(self, spec: ImageSpec) -> Hashable:
        """The latents' size, and the size in which the reference image is seen."""
        return (super().batch_key(spec), *map(self._seen_size, spec.reference_images))

    def _seen_size(self, image: Pixels) -> tuple[int, int]:
        """Width and height of a reference image: the first nearest shape, in whole tokens."""
        multiple_px = self._pipeline.vae_scale_factor * 2
        # Its shape once it is cut to whole tokens.
        ratio = (image.width_px // multiple_px) / (image.height_px // multiple_px)
        _, width, height = min((abs(ratio - w / h), w, h) for w, h in PREFERRED_KONTEXT_RESOLUTIONS)
        return width // multiple_px * multiple_px, height // multiple_px * multiple_px

    @torch.inference_mode()
    def encoded(self, spec: ImageSpec) -> Conditioning:
        """Both text encoders, and the reference image: nothing is drawn for it."""
        texts = super().encoded(spec)
        if not spec.reference_images:
            return texts
        [image] = spec.reference_images
        latents = self._reference(image, texts.context.dtype)
        _, _, height, width = latents.shape
        ids = self._pipeline._prepare_latent_image_ids(
            1, height // 2, width // 2, self._device, latents.dtype
        )
        ids[..., 0] = 1
        return KontextConditioning(
            texts.context, texts.pooled, texts.text_ids, self._packed(latents), ids
        )

    def _reference(self, image: Pixels, dtype: torch.dtype) -> torch.Tensor:
        """A reference image's latents: [1, C, h, w]."""
        processor, config = self._pipeline.image_processor, self.vae.config
        width, height = self._seen_size(image)
        resized = processor.resize(picture(image), height, width)
        pixels = processor.preprocess(resized, height, width).to(self._device, dtype)
        latents = retrieve_latents(self.vae.encode(pixels), sample_mode="argmax")
        scaled: torch.Tensor = (latents - config.shift_factor) * config.scaling_factor
        return scaled

    @torch.inference_mode()
    def arguments(
        self, trajectories: Sequence[DiffusersTrajectory[Conditioning, torch.Tensor]]
    ) -> dict[str, Any]:
        """With the reference images' ids, which are shared by the batch as their sizes are."""
        arguments = super().arguments(trajectories)
        first = trajectories[0].conditioning
        if isinstance(first, KontextConditioning):
            arguments["img_ids"] = torch.cat([arguments["img_ids"], first.reference_ids])
        return arguments

    def _model_input(self, one: DiffusersTrajectory[Conditioning, torch.Tensor]) -> torch.Tensor:
        """Latents, and those of the reference image: [1, tokens, channels]."""
        given = one.conditioning
        if isinstance(given, KontextConditioning):
            return torch.cat([one.latents, given.reference], dim=1)
        return one.latents

    def guided(
        self, one: DiffusersTrajectory[Conditioning, torch.Tensor], predicted: torch.Tensor
    ) -> torch.Tensor:
        """Of the tokens that are the image's own."""
        return predicted[:, : one.latents.shape[1]]
