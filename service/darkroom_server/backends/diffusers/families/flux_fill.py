"""FLUX.1 Fill, step by step: the masked image and the mask are inputs of the transformer.

Operations and draws in the order of diffusers' `FluxFillPipeline`.
"""

from __future__ import annotations

import torch

from darkroom_server.backends.diffusers.families.flux import Conditioning, FluxStepModel
from darkroom_server.backends.diffusers.pictures import picture
from darkroom_server.backends.diffusers.schedule import Schedule
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory
from darkroom_server.domain.jobs import FillSpec, ImageSpec


class FluxFillStepModel(FluxStepModel):
    """A loaded FLUX.1 Fill pipeline as a `StepModel`; it does nothing but fill."""

    @torch.inference_mode()
    def begin(
        self, spec: ImageSpec, encoded: Conditioning, image_index: int
    ) -> DiffusersTrajectory[Conditioning, torch.Tensor]:
        """Encodes the image, draws the noise, then encodes what the mask leaves of the image.

        Raises ValueError for a request without a mask.
        """
        fill = spec.fill
        if fill is None:
            raise ValueError("a fill model was given a request without an image to fill")
        schedule, dtype = self.schedule(spec, image_index), encoded.context.dtype
        image = self._preprocessed(fill.image, spec)
        latents = self._noised(image.to(self._device, dtype), spec, schedule)
        condition = self._condition(image, fill, spec, schedule, dtype)
        return self._trajectory(spec, schedule, latents, encoded, condition)

    def _condition(
        self,
        image: torch.Tensor,
        fill: FillSpec,
        spec: ImageSpec,
        schedule: Schedule,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """Packed latents of the masked image, and the packed mask: [1, tokens, channels]."""
        pipeline = self._pipeline
        mask = pipeline.mask_processor.preprocess(
            picture(fill.mask), height=spec.height_px, width=spec.width_px
        )
        masked_image = image * (1 - mask)
        small_mask, masked_latents = pipeline.prepare_mask_latents(
            mask,
            masked_image.to(device=self._device, dtype=dtype),
            1,
            pipeline.vae.config.latent_channels,
            1,
            spec.height_px,
            spec.width_px,
            dtype,
            self._device,
            schedule.generator,
        )
        return torch.cat((masked_latents, small_mask), dim=-1)

    def _model_input(self, one: DiffusersTrajectory[Conditioning, torch.Tensor]) -> torch.Tensor:
        """Latents, masked image and mask: [1, tokens, channels]."""
        assert one.extra is not None
        return torch.cat((one.latents, one.extra), dim=2)
