"""FLUX.1 Kontext, step by step: text to image, edits of one reference image, and fills.

Operations in the order of diffusers' `FluxKontextPipeline` and `FluxKontextInpaintPipeline`. A
reference image stands beside the latents, in the size of those that the model was trained with
whose shape is nearest; beside those of a fill without one stands the image that is filled. Fills
are made in the size that is asked for; their pipeline makes them in one that was trained.
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
    #: That of a fill: latents [1, channels, height, width].
    filled: torch.Tensor | None = None


class FluxKontextStepModel(FluxStepModel):
    """A loaded FLUX.1 Kontext pipeline as a `StepModel`."""

    def batch_key(self, spec: ImageSpec) -> Hashable:
        """The latents' size, and that of the image which stands beside them."""
        sizes = [self._seen_size(one) for one in spec.reference_images]
        if spec.fill is not None and not sizes:
            sizes = [(spec.width_px, spec.height_px)]
        return (super().batch_key(spec), *sizes)

    def _seen_size(self, image: Pixels) -> tuple[int, int]:
        """Width and height of a reference image: the first nearest shape, in whole tokens."""
        multiple_px = self._pipeline.vae_scale_factor * 2
        # Its shape once it is cut to whole tokens.
        ratio = (image.width_px // multiple_px) / (image.height_px // multiple_px)
        _, width, height = min((abs(ratio - w / h), w, h) for w, h in PREFERRED_KONTEXT_RESOLUTIONS)
        return width // multiple_px * multiple_px, height // multiple_px * multiple_px

    @torch.inference_mode()
    def encoded(self, spec: ImageSpec) -> Conditioning:
        """Both text encoders, and images: nothing is drawn for these."""
        texts = super().encoded(spec)
        dtype = texts.context.dtype
        filled = None
        if spec.fill is not None:
            filled = self._mode(self._preprocessed(spec.fill.image, spec).to(self._device, dtype))
        references = [self._reference(one, dtype) for one in spec.reference_images]
        beside = next(iter(references), filled)
        if beside is None:
            return texts
        _, _, height, width = beside.shape
        ids = self._pipeline._prepare_latent_image_ids(
            1, height // 2, width // 2, self._device, dtype
        )
        ids[..., 0] = 1
        return KontextConditioning(
            texts.context, texts.pooled, texts.text_ids, self._packed(beside), ids, filled
        )

    def _reference(self, image: Pixels, dtype: torch.dtype) -> torch.Tensor:
        """A reference image's latents: [1, C, h, w]."""
        processor = self._pipeline.image_processor
        width, height = self._seen_size(image)
        resized = processor.resize(picture(image), height, width)
        pixels = processor.preprocess(resized, height, width)
        return self._mode(pixels.to(self._device, dtype))

    def _mode(self, pixels: torch.Tensor) -> torch.Tensor:
        """The likeliest latents of an image [1, 3, height, width]."""
        config = self.vae.config
        latents = retrieve_latents(self.vae.encode(pixels), sample_mode="argmax")
        scaled: torch.Tensor = (latents - config.shift_factor) * config.scaling_factor
        return scaled

    @torch.inference_mode()
    def begin(
        self, spec: ImageSpec, encoded: Conditioning, image_index: int
    ) -> DiffusersTrajectory[Conditioning, torch.Tensor]:
        """Draws the noise, which a fill lays over its image."""
        if spec.fill is None:
            return super().begin(spec, encoded, image_index)
        assert isinstance(encoded, KontextConditioning)
        assert encoded.filled is not None
        schedule = self.schedule(spec, image_index)
        latents, repainting = self._repainted(spec.fill, encoded.filled, spec, schedule)
        begun = self._trajectory(spec, schedule, latents, encoded)
        begun.repainting = repainting
        return begun

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
