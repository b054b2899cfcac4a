"""SDXL, step by step: text to image, and filling by the same 4-channel UNet or a 9-channel one.

Every tensor operation and every random draw happens in the order of diffusers'
`StableDiffusionXLPipeline` and `StableDiffusionXLInpaintPipeline`, so that an image run alone is
bit-equal to the stock pipeline's with `torch.Generator("cpu").manual_seed(seed)`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableDiffusionXLInpaintPipeline, StableDiffusionXLPipeline
from diffusers.utils.torch_utils import randn_tensor

from darkroom_server.backends.diffusers.pictures import picture
from darkroom_server.backends.diffusers.schedule import Schedule
from darkroom_server.backends.diffusers.step_model import (
    DiffusersStepModel,
    DiffusersTrajectory,
    filled_up,
)
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import FillSpec, ImageSpec

#: SDXL's inpainting pipeline passes these when the UNet was trained with aesthetic scores.
AESTHETIC_SCORE, NEGATIVE_AESTHETIC_SCORE = 6.0, 2.5


@dataclass(frozen=True, slots=True)
class Conditioning:
    """Denoiser inputs that all images of a request share; with guidance, [negative, positive].

    `context` [rows, tokens, width], `pooled` [rows, width], `time_ids` [rows, 6].
    """

    context: torch.Tensor
    pooled: torch.Tensor
    time_ids: torch.Tensor


@dataclass(frozen=True, slots=True)
class FillState:
    """What filling adds to a trajectory; latents are [1, C, height/8, width/8].

    With a 4-channel UNet the kept part is blended in after each step; with 9 channels `extra`
    ([1, 1 + C, ...]: mask and masked image) is an input of the UNet instead.
    """

    mask: torch.Tensor
    noise: torch.Tensor
    image_latents: torch.Tensor | None
    extra: torch.Tensor | None


class SdxlStepModel(DiffusersStepModel):
    """A loaded SDXL pipeline as a `StepModel`."""

    def __init__(
        self,
        pipeline: StableDiffusionXLPipeline | StableDiffusionXLInpaintPipeline,
        *,
        allowed_schedulers: Sequence[str],
        prompts: PromptCache,
    ) -> None:
        super().__init__(
            pipeline, pipeline.unet, allowed_schedulers=allowed_schedulers, prompts=prompts
        )
        parts = dict(pipeline.components)
        self._fill_pipeline = (
            pipeline
            if isinstance(pipeline, StableDiffusionXLInpaintPipeline)
            else StableDiffusionXLInpaintPipeline(
                **{k: parts[k] for k in parts if k not in ("image_encoder", "feature_extractor")},
                force_zeros_for_empty_prompt=pipeline.config.force_zeros_for_empty_prompt,
                add_watermarker=False,
            )
        )
        self._unet = pipeline.unet
        self._unet_arguments = {"timestep_cond": None, "cross_attention_kwargs": None}

    def batch_key(self, spec: ImageSpec) -> Hashable:
        """The latents' size: text to image and fill differ only after the step."""
        scale = self._pipeline.vae_scale_factor
        return (spec.height_px // scale, spec.width_px // scale)

    def rows(self, spec: ImageSpec) -> int:
        """Two with guidance above 1, else one."""
        return 2 if self._is_guided(spec) else 1

    def _is_guided(self, spec: ImageSpec) -> bool:
        return spec.guidance_scale > 1 and self._unet.config.time_cond_proj_dim is None

    @torch.inference_mode()
    def encode(self, spec: ImageSpec) -> Conditioning:
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
        if spec.fill is None:
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

    @torch.inference_mode()
    def begin(
        self, spec: ImageSpec, encoded: Conditioning, image_index: int
    ) -> DiffusersTrajectory:
        """Draws the noise; for a fill, encodes image and mask first."""
        schedule = self.schedule(spec, image_index)
        if spec.fill is not None:
            return self._begin_fill(spec, spec.fill, encoded, schedule)
        noise = self._noise(spec, self._unet.config.in_channels, schedule, encoded.context.dtype)
        latents = noise * schedule.scheduler.init_noise_sigma
        return DiffusersTrajectory(spec, schedule, latents, encoded)

    def _noise(
        self, spec: ImageSpec, channel_count: int, schedule: Schedule, dtype: torch.dtype
    ) -> torch.Tensor:
        scale = self._pipeline.vae_scale_factor
        shape = (1, channel_count, spec.height_px // scale, spec.width_px // scale)
        noise: torch.Tensor = randn_tensor(
            shape, generator=schedule.generator, device=self._device, dtype=dtype
        )
        return noise

    def _begin_fill(
        self, spec: ImageSpec, fill: FillSpec, encoded: Conditioning, schedule: Schedule
    ) -> DiffusersTrajectory:
        pipeline, dtype = self._fill_pipeline, encoded.context.dtype
        size = {"height": spec.height_px, "width": spec.width_px}
        image = pipeline.image_processor.preprocess(picture(fill.image), **size).float()
        mask = pipeline.mask_processor.preprocess(picture(fill.mask), **size)
        image = image.to(self._device, dtype)
        from_noise = fill.strength == 1.0
        blended = self._unet.config.in_channels == 4
        image_latents = None
        if blended or not from_noise:
            # Drawn before the noise, as the pipeline does: a sampling VAE advances the generator.
            # Its memory layout, too, is the pipeline's: convolutions round differently in another.
            encoded_image = pipeline._encode_vae_image(image=image, generator=schedule.generator)
            image_latents = encoded_image.contiguous()
        noise = self._noise(spec, pipeline.vae.config.latent_channels, schedule, dtype)
        if from_noise:
            latents = noise * schedule.scheduler.init_noise_sigma
        else:
            latents = schedule.scheduler.add_noise(image_latents, noise, schedule.timesteps[:1])
        small_mask, masked_latents = pipeline.prepare_mask_latents(
            mask,
            image * (mask.to(self._device) < 0.5),
            1,
            spec.height_px,
            spec.width_px,
            dtype,
            self._device,
            schedule.generator,
            False,
        )
        extra = None if blended else torch.cat([small_mask, masked_latents], dim=1)
        state = FillState(small_mask, noise, image_latents if blended else None, extra)
        return DiffusersTrajectory(spec, schedule, latents, encoded, state)

    @torch.inference_mode()
    def gather(self, trajectories: Sequence[DiffusersTrajectory], row_count: int) -> dict[str, Any]:
        """UNet inputs; rows of one trajectory stand together, negative before positive."""
        rows, steps = [], []
        for one in trajectories:
            schedule, fill = one.schedule, one.extra
            repeated = torch.cat([one.latents] * len(one.conditioning.context))
            row = schedule.scheduler.scale_model_input(repeated, schedule.timestep)
            if fill is not None and fill.extra is not None:
                row = torch.cat([row, torch.cat([fill.extra] * len(row))], dim=1)
            rows.append(row)
            # Schedulers differ in the type of their timesteps; a UNet takes them as floats.
            steps.append(schedule.timestep.expand(len(row)).float())
        sample = torch.cat(rows)
        # One trajectory keeps its timestep a scalar, as the stock pipeline passes it.
        alone = len(trajectories) == 1 and row_count <= len(sample)
        timestep = trajectories[0].schedule.timestep if alone else torch.cat(steps)
        given = [one.conditioning for one in trajectories]
        return {
            "sample": filled_up(sample, row_count),
            "timestep": timestep if alone else filled_up(timestep, row_count),
            "encoder_hidden_states": filled_up(torch.cat([c.context for c in given]), row_count),
            "added_cond_kwargs": {
                "text_embeds": filled_up(torch.cat([c.pooled for c in given]), row_count),
                "time_ids": filled_up(torch.cat([c.time_ids for c in given]), row_count),
            },
        }

    @torch.inference_mode()
    def denoise(self, inputs: dict[str, Any]) -> torch.Tensor:
        """One UNet evaluation: predictions [rows, C, height/8, width/8]."""
        predicted: torch.Tensor = self._unet(**inputs, **self._unet_arguments, return_dict=False)[0]
        return predicted

    def guided(self, one: DiffusersTrajectory, predicted: torch.Tensor) -> torch.Tensor:
        """Classifier-free guidance."""
        if len(predicted) == 1:
            return predicted
        negative, positive = predicted.chunk(2)
        combined: torch.Tensor = negative + one.spec.guidance_scale * (positive - negative)
        return combined

    @torch.inference_mode()
    def scatter(
        self, trajectory: DiffusersTrajectory, outputs: torch.Tensor, first_row: int
    ) -> None:
        """The step, after which the kept part of a fill is blended in, noised for the next."""
        super().scatter(trajectory, outputs, first_row)
        one, fill = trajectory, trajectory.extra
        if fill is None or fill.image_latents is None:
            return
        kept = fill.image_latents
        if not one.finished:
            timestep = torch.tensor([one.schedule.timestep])
            kept = one.schedule.scheduler.add_noise(kept, fill.noise, timestep)
        one.latents = (1 - fill.mask) * kept + fill.mask * one.latents

    def to_image(self, latents: torch.Tensor) -> torch.Tensor:
        """Runs the VAE, in FP32 where FP16 would overflow."""
        vae = self._pipeline.vae
        upcast = vae.dtype == torch.float16 and vae.config.force_upcast
        if upcast:
            vae.to(dtype=torch.float32)
            latents = latents.float()
        decoded: torch.Tensor = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[
            0
        ]
        if upcast:
            vae.to(dtype=torch.float16)
        return decoded
