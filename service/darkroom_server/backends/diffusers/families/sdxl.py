"""SDXL, step by step: text to image, image to image, and filling.

In the order of diffusers' `StableDiffusionXLPipeline`, `StableDiffusionXLImg2ImgPipeline` and
`StableDiffusionXLInpaintPipeline`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import (
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)

from darkroom_server.backends.diffusers.families.unet import FillState, UnetStepModel
from darkroom_server.backends.diffusers.previews import latent_statistics
from darkroom_server.backends.diffusers.schedule import Schedule
from darkroom_server.backends.diffusers.step_model import kept_dtype
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec

#: SDXL's pipelines that begin with an image pass these when the UNet was trained with such scores.
AESTHETIC_SCORE, NEGATIVE_AESTHETIC_SCORE = 6.0, 2.5


@dataclass(frozen=True, slots=True)
class Conditioning:
    """Denoiser inputs that all images of a request share; with guidance, [negative, positive].

    `context` [rows, tokens, width], `pooled` [rows, width], `time_ids` [rows, 6].
    """

    context: torch.Tensor
    pooled: torch.Tensor
    time_ids: torch.Tensor


class SdxlStepModel(UnetStepModel[Conditioning]):
    """A loaded SDXL pipeline as a `StepModel`."""

    def __init__(
        self,
        pipeline: StableDiffusionXLPipeline | StableDiffusionXLInpaintPipeline,
        *,
        allowed_schedulers: Sequence[str],
        prompts: PromptCache,
    ) -> None:
        parts = {
            name: part
            for name, part in pipeline.components.items()
            if name not in ("image_encoder", "feature_extractor")
        }
        fill_pipeline = (
            pipeline
            if isinstance(pipeline, StableDiffusionXLInpaintPipeline)
            else StableDiffusionXLInpaintPipeline(
                **parts,
                force_zeros_for_empty_prompt=pipeline.config.force_zeros_for_empty_prompt,
                add_watermarker=False,
            )
        )
        super().__init__(
            pipeline, fill_pipeline, allowed_schedulers=allowed_schedulers, prompts=prompts
        )

        self._source_pipeline = StableDiffusionXLImg2ImgPipeline(**parts, add_watermarker=False)

    @torch.inference_mode()
    def encoded(self, spec: ImageSpec) -> Conditioning:
        """Both text encoders, and the sizes."""
        guided = self._is_guided(spec)
        context, pooled = self._text(spec.prompt)
        time_ids = self._time_ids(spec, context.dtype, guided)
        if guided:
            negative, negative_pooled = self._negative(spec, context, pooled)
            context = torch.cat([negative, context], dim=0)
            pooled = torch.cat([negative_pooled, pooled], dim=0)
        return Conditioning(context, pooled, time_ids.to(self._device))

    def _text(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states [1, tokens, width] and the pooled vector [1, width] of one text."""

        def make() -> tuple[torch.Tensor, torch.Tensor]:
            context, _, pooled, _ = self._pipeline.encode_prompt(
                prompt=text, device=self._device, do_classifier_free_guidance=False
            )
            return context, pooled

        return self._prompts.lookup(text, make)

    def _negative(
        self, spec: ImageSpec, context: torch.Tensor, pooled: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if spec.negative_prompt is None and self._pipeline.config.force_zeros_for_empty_prompt:
            return torch.zeros_like(context), torch.zeros_like(pooled)
        return self._text(spec.negative_prompt or "")

    def _time_ids(self, spec: ImageSpec, dtype: torch.dtype, guided: bool) -> torch.Tensor:
        size = (spec.height_px, spec.width_px)
        width = int(self._pipeline.text_encoder_2.config.projection_dim)
        if spec.fill is None and spec.source is None:
            ids = self._pipeline._get_add_time_ids(
                size, (0, 0), size, dtype=dtype, text_encoder_projection_dim=width
            )
            negative_ids = ids
        else:
            ids, negative_ids = self._fill_pipeline._get_add_time_ids(
                size,
                (0, 0),
                size,
                AESTHETIC_SCORE,
                NEGATIVE_AESTHETIC_SCORE,
                size,
                (0, 0),
                size,
                dtype=dtype,
                text_encoder_projection_dim=width,
            )
        return torch.cat([negative_ids, ids], dim=0) if guided else ids

    def added_conditions(self, given: Sequence[Conditioning]) -> dict[str, torch.Tensor]:
        """Pooled texts and sizes."""
        return {
            "text_embeds": torch.cat([c.pooled for c in given]),
            "time_ids": torch.cat([c.time_ids for c in given]),
        }

    def _source_latents(self, image: torch.Tensor, schedule: Schedule) -> torch.Tensor:
        """With the statistics of the latents where the VAE has them, unlike those of a fill."""
        latents: torch.Tensor = self._source_pipeline.prepare_latents(
            image, None, 1, 1, image.dtype, self._device, schedule.generator, add_noise=False
        )
        return latents

    def to_image(self, latents: torch.Tensor) -> torch.Tensor:
        """Runs the VAE, in FP32 where FP16 would overflow."""
        vae = self.vae
        with kept_dtype(vae):
            if vae.config.force_upcast and vae.dtype == torch.float16:
                vae.to(dtype=torch.float32)
                latents = latents.float()
            statistics = latent_statistics(vae, latents)
            if statistics is None:
                scaled = latents / vae.config.scaling_factor
            else:
                mean, std = statistics
                scaled = latents * std / vae.config.scaling_factor + mean
            return self.decoder(scaled)

    def begin(
        self, spec: ImageSpec, encoded: Conditioning, image_index: int
    ) -> DiffusersTrajectory[Conditioning, FillState]:
        """As of all UNets; the pipelines, too, encode an image in FP32."""
        with kept_dtype(self.vae):
            return super().begin(spec, encoded, image_index)
