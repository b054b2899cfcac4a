"""SDXL, step by step: text to image, and filling by the same 4-channel UNet or a 9-channel one.

Every tensor operation and every random draw happens in the order of diffusers'
`StableDiffusionXLPipeline` and `StableDiffusionXLInpaintPipeline`, so that an image run alone is
bit-equal to the stock pipeline's with `torch.Generator("cpu").manual_seed(seed)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import StableDiffusionXLInpaintPipeline, StableDiffusionXLPipeline
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from darkroom_server.backends.base import ImageArray
from darkroom_server.domain.errors import GenerationFailed, InvalidParameter
from darkroom_server.domain.jobs import FillSpec, ImageSpec
from darkroom_server.domain.models import Dtype

DTYPES = {
    torch.float32: Dtype.FP32,
    torch.float16: Dtype.FP16,
    torch.bfloat16: Dtype.BF16,
}

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


class SdxlTrajectory:
    """One image: its latents, a scheduler and a generator of its own."""

    def __init__(
        self,
        spec: ImageSpec,
        conditioning: Conditioning,
        scheduler: Any,
        generator: torch.Generator,
        timesteps: torch.Tensor,
        step_count: int,
        latents: torch.Tensor,
        fill: FillState | None,
    ) -> None:
        self.spec = spec
        self.conditioning = conditioning
        self.scheduler = scheduler
        self.generator = generator
        self.timesteps = timesteps
        self.latents = latents
        self.fill = fill
        self.evaluation_count = 0
        self.step_count = step_count
        self.step_arguments = _step_arguments(scheduler, generator)

    @property
    def completed_step_count(self) -> int:
        """Steps done as the caller counts them: some schedulers evaluate more often than once."""
        return self.evaluation_count * self.step_count // max(1, len(self.timesteps))

    @property
    def finished(self) -> bool:
        """Whether the last evaluation was done."""
        return self.evaluation_count >= len(self.timesteps)

    @property
    def timestep(self) -> torch.Tensor:
        """The timestep of the next evaluation."""
        return self.timesteps[self.evaluation_count]


def _begin_at(scheduler: Any, index: int) -> None:
    """Spares a device sync in every step; DDIM and PNDM need no such hint."""
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(index)


def _step_arguments(scheduler: Any, generator: torch.Generator) -> dict[str, Any]:
    accepted = inspect.signature(scheduler.step).parameters
    arguments: dict[str, Any] = {}
    if "eta" in accepted:
        arguments["eta"] = 0.0
    if "generator" in accepted:
        arguments["generator"] = generator
    return arguments


class SdxlStepModel:
    """A loaded SDXL pipeline as a `StepModel`."""

    def __init__(
        self,
        pipeline: StableDiffusionXLPipeline | StableDiffusionXLInpaintPipeline,
        *,
        allowed_schedulers: Sequence[str],
    ) -> None:
        self._allowed_schedulers = frozenset(allowed_schedulers)
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
        self._pipeline = pipeline
        self._device = pipeline.device
        self._unet = pipeline.unet
        self._unet_arguments = {"timestep_cond": None, "cross_attention_kwargs": None}

    def batch_key(self, spec: ImageSpec) -> Hashable:
        """The latents' size: text to image and fill differ only after the step."""
        scale = self._pipeline.vae_scale_factor
        return (spec.height_px // scale, spec.width_px // scale)

    def rows(self, spec: ImageSpec) -> int:
        """Two with guidance above 1, else one."""
        return 2 if self._guided(spec) else 1

    def memory_bytes(self) -> int:
        """Bytes of all parameters and buffers."""
        modules = [p for p in self._pipeline.components.values() if isinstance(p, torch.nn.Module)]
        return sum(
            tensor.numel() * tensor.element_size()
            for module in modules
            for tensor in (*module.parameters(), *module.buffers())
        )

    def dtype(self) -> Dtype:
        """That of the UNet."""
        return DTYPES[self._unet.dtype]

    @torch.inference_mode()
    def encode(self, spec: ImageSpec) -> Conditioning:
        """Runs both text encoders."""
        guided = self._guided(spec)
        context, negative, pooled, negative_pooled = self._pipeline.encode_prompt(
            prompt=spec.prompt,
            device=self._device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=guided,
            negative_prompt=spec.negative_prompt,
        )
        time_ids = self._time_ids(spec, context.dtype, guided)
        if guided:
            context = torch.cat([negative, context], dim=0)
            pooled = torch.cat([negative_pooled, pooled], dim=0)
        return Conditioning(context, pooled, time_ids.to(self._device))

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
    def begin(self, spec: ImageSpec, encoded: Conditioning, image_index: int) -> SdxlTrajectory:
        """Draws the noise and prepares a private scheduler; for a fill, encodes image and mask."""
        generator = torch.Generator("cpu").manual_seed(spec.seeds[image_index])
        scheduler = self._scheduler(spec.scheduler)
        scheduler.set_timesteps(spec.step_count, device=self._device)
        if spec.fill is not None:
            return self._begin_fill(spec, spec.fill, encoded, scheduler, generator)
        scale = self._pipeline.vae_scale_factor
        noise = randn_tensor(
            (
                1,
                self._unet.config.in_channels,
                spec.height_px // scale,
                spec.width_px // scale,
            ),
            generator=generator,
            device=self._device,
            dtype=encoded.context.dtype,
        )
        latents = noise * scheduler.init_noise_sigma
        _begin_at(scheduler, 0)
        return SdxlTrajectory(
            spec,
            encoded,
            scheduler,
            generator,
            scheduler.timesteps,
            spec.step_count,
            latents,
            None,
        )

    def _begin_fill(
        self,
        spec: ImageSpec,
        fill: FillSpec,
        encoded: Conditioning,
        scheduler: Any,
        generator: torch.Generator,
    ) -> SdxlTrajectory:
        pipeline, dtype = self._fill_pipeline, encoded.context.dtype
        step_count = min(int(spec.step_count * fill.strength), spec.step_count)
        skipped = (spec.step_count - step_count) * scheduler.order
        timesteps = scheduler.timesteps[skipped:]
        _begin_at(scheduler, skipped)
        size = {"height": spec.height_px, "width": spec.width_px}
        image = pipeline.image_processor.preprocess(_picture(fill.image, "RGB"), **size).float()
        mask = pipeline.mask_processor.preprocess(_picture(fill.mask, "L"), **size)
        from_noise = fill.strength == 1.0
        blended = self._unet.config.in_channels == 4
        image_latents = None
        image = image.to(self._device, dtype)
        if blended or not from_noise:
            # Drawn before the noise, as the pipeline does: a sampling VAE advances the generator.
            # Its memory layout, too, is the pipeline's: convolutions round differently in another.
            encoded_image = pipeline._encode_vae_image(image=image, generator=generator)
            image_latents = encoded_image.contiguous()
        scale = pipeline.vae_scale_factor
        shape = (
            1,
            pipeline.vae.config.latent_channels,
            spec.height_px // scale,
            spec.width_px // scale,
        )
        noise = randn_tensor(shape, generator=generator, device=self._device, dtype=dtype)
        if from_noise:
            latents = noise * scheduler.init_noise_sigma
        else:
            latents = scheduler.add_noise(image_latents, noise, timesteps[:1])
        small_mask, masked_latents = pipeline.prepare_mask_latents(
            mask,
            image * (mask.to(self._device) < 0.5),
            1,
            spec.height_px,
            spec.width_px,
            dtype,
            self._device,
            generator,
            False,
        )
        extra = None if blended else torch.cat([small_mask, masked_latents], dim=1)
        state = FillState(small_mask, noise, image_latents if blended else None, extra)
        return SdxlTrajectory(
            spec, encoded, scheduler, generator, timesteps, step_count, latents, state
        )

    @torch.inference_mode()
    def gather(self, trajectories: Sequence[SdxlTrajectory], row_count: int) -> dict[str, Any]:
        """UNet inputs; rows of one trajectory stand together, negative before positive."""
        rows, steps = [], []
        for one in trajectories:
            repeated = torch.cat([one.latents] * len(one.conditioning.context))
            row = one.scheduler.scale_model_input(repeated, one.timestep)
            if one.fill is not None and one.fill.extra is not None:
                row = torch.cat([row, torch.cat([one.fill.extra] * len(row))], dim=1)
            rows.append(row)
            # Schedulers differ in the type of their timesteps; a UNet takes them as floats.
            steps.append(one.timestep.expand(len(row)).float())
        sample = torch.cat(rows)
        fill_up = row_count - len(sample)
        alone = len(trajectories) == 1 and not fill_up
        conditions = [one.conditioning for one in trajectories]
        return {
            "sample": _filled_up(sample, fill_up),
            # One trajectory keeps its timestep a scalar, as the stock pipeline passes it.
            "timestep": trajectories[0].timestep
            if alone
            else _filled_up(torch.cat(steps), fill_up),
            "encoder_hidden_states": _filled_up(
                torch.cat([c.context for c in conditions]), fill_up
            ),
            "added_cond_kwargs": {
                "text_embeds": _filled_up(torch.cat([c.pooled for c in conditions]), fill_up),
                "time_ids": _filled_up(torch.cat([c.time_ids for c in conditions]), fill_up),
            },
        }

    @torch.inference_mode()
    def denoise(self, inputs: dict[str, Any]) -> torch.Tensor:
        """One UNet evaluation: predictions [rows, C, height/8, width/8]."""
        predicted: torch.Tensor = self._unet(**inputs, **self._unet_arguments, return_dict=False)[0]
        return predicted

    @torch.inference_mode()
    def scatter(self, trajectory: SdxlTrajectory, outputs: torch.Tensor, first_row: int) -> None:
        """Guidance, scheduler step and, for fills, the blend."""
        one, row_count = trajectory, len(trajectory.conditioning.context)
        predicted = outputs[first_row : first_row + row_count]
        if row_count == 2:
            negative, positive = predicted.chunk(2)
            predicted = negative + one.spec.guidance_scale * (positive - negative)
        one.latents = one.scheduler.step(
            predicted, one.timestep, one.latents, **one.step_arguments, return_dict=False
        )[0]
        one.evaluation_count += 1
        if one.fill is not None and one.fill.image_latents is not None:
            one.latents = _keep_unmasked(one, one.fill, one.fill.image_latents)

    @torch.inference_mode()
    def decode(self, trajectory: SdxlTrajectory) -> ImageArray:
        """Runs the VAE; raises GenerationFailed for latents that are not finite."""
        latents, vae = trajectory.latents, self._pipeline.vae
        if not bool(torch.isfinite(latents).all()):
            raise GenerationFailed("The model produced values that are not finite.")
        upcast = vae.dtype == torch.float16 and vae.config.force_upcast
        if upcast:
            vae.to(dtype=torch.float32)
            latents = latents.float()
        decoded = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
        if upcast:
            vae.to(dtype=torch.float16)
        image = self._pipeline.image_processor.postprocess(decoded, output_type="pil")[0]
        pixels = np.asarray(image, dtype=np.uint8)
        fill = trajectory.spec.fill
        if fill is None or not fill.preserve_unmasked:
            return pixels
        original = np.asarray(_picture(fill.image, "RGB"))
        repaint = np.asarray(_picture(fill.mask, "L"))[:, :, None] >= 128
        return np.where(repaint, pixels, original)

    def _guided(self, spec: ImageSpec) -> bool:
        return spec.guidance_scale > 1 and self._unet.config.time_cond_proj_dim is None

    def _scheduler(self, name: str) -> Any:
        base = self._pipeline.scheduler
        if name == type(base).__name__:
            return type(base).from_config(base.config)
        if name not in self._allowed_schedulers:
            allowed = ", ".join(sorted(self._allowed_schedulers))
            raise InvalidParameter("scheduler", f"Unknown scheduler {name}; one of {allowed}.")
        return getattr(diffusers, name).from_config(base.config)


def _filled_up(rows: torch.Tensor, row_count: int) -> torch.Tensor:
    """The rows and `row_count` copies of the last: zeros could turn into values like nan."""
    return torch.cat([rows, rows[-1:].expand(row_count, *rows.shape[1:])]) if row_count else rows


def _keep_unmasked(
    one: SdxlTrajectory, fill: FillState, image_latents: torch.Tensor
) -> torch.Tensor:
    kept = image_latents
    if not one.finished:
        kept = one.scheduler.add_noise(kept, fill.noise, torch.tensor([one.timestep]))
    return (1 - fill.mask) * kept + fill.mask * one.latents


def _picture(pixels: Any, mode: str) -> Image.Image:
    return Image.frombytes(mode, (pixels.width_px, pixels.height_px), pixels.data)
