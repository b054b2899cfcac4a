"""Families with a UNet and classifier-free guidance: text to image, image to image and filling.

Filling is done by the same 4-channel UNet or by a 9-channel one. Every tensor operation and every
random draw happens in the order of diffusers' pipelines, so that an image run alone is bit-equal to
the stock pipeline's with `torch.Generator("cpu").manual_seed(seed)`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from diffusers.utils.torch_utils import randn_tensor

from darkroom_server.backends.diffusers.pictures import picture
from darkroom_server.backends.diffusers.schedule import PrivateSchedulers, Schedule
from darkroom_server.backends.diffusers.step_model import DiffusersStepModel
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import FillSpec, ImageSpec, Pixels, SourceSpec


class TextConditioning(Protocol):
    """What `encode` returns, at least: with guidance, rows are [negative, positive]."""

    @property
    def context(self) -> torch.Tensor:
        """Hidden states [rows, tokens, width]."""
        ...


Conditioned = TypeVar("Conditioned", bound=TextConditioning)


@dataclass(frozen=True, slots=True)
class FillState:
    """What filling adds to a trajectory; latents are [1, C, height/8, width/8].

    With a 4-channel UNet the kept part is blended in after each step; with 9 channels `extra`
    ([1, 1 + C, ...]: mask and masked image) is an input of the UNet instead. `image` and
    `pixel_mask` are [1, 3, height, width] and [1, 1, height, width].
    """

    mask: torch.Tensor
    noise: torch.Tensor
    image_latents: torch.Tensor | None
    extra: torch.Tensor | None
    image: torch.Tensor
    pixel_mask: torch.Tensor


class UnetStepModel(DiffusersStepModel[Conditioned, FillState]):
    """A loaded pipeline with a UNet. `fill_pipeline` holds the same parts for filling."""

    constants: ClassVar[Mapping[str, Any]] = {"timestep_cond": None, "cross_attention_kwargs": None}
    size_axes: ClassVar[Mapping[str, tuple[int, ...]]] = {"sample": (2, 3)}

    def __init__(
        self,
        pipeline: Any,
        fill_pipeline: Any,
        *,
        allowed_schedulers: Sequence[str],
        prompts: PromptCache,
    ) -> None:
        super().__init__(
            pipeline, pipeline.unet, allowed_schedulers=allowed_schedulers, prompts=prompts
        )
        self._fill_pipeline = fill_pipeline
        self._fill_schedulers = PrivateSchedulers(
            fill_pipeline.scheduler, allowed=allowed_schedulers
        )
        self._unet = pipeline.unet

    def batch_key(self, spec: ImageSpec) -> Hashable:
        """The latents' size: tasks differ only before the first step and after each."""
        scale = self._pipeline.vae_scale_factor
        return (spec.height_px // scale, spec.width_px // scale)

    def _schedulers_for(self, spec: ImageSpec) -> PrivateSchedulers:
        return self._schedulers if spec.fill is None else self._fill_schedulers

    def begins_with_image(self, spec: ImageSpec) -> bool:
        """Not a fill of full strength by a UNet that takes the image itself."""
        if spec.fill is not None and not self._is_blended:
            return spec.fill.strength < 1.0
        return super().begins_with_image(spec)

    @property
    def _is_blended(self) -> bool:
        """Whether a fill's kept part is blended in after each step."""
        return int(self._unet.config.in_channels) == 4

    def rows(self, spec: ImageSpec) -> int:
        """Two with guidance above 1, else one."""
        return 2 if self._is_guided(spec) else 1

    def _is_guided(self, spec: ImageSpec) -> bool:
        return spec.guidance_scale > 1 and self._unet.config.time_cond_proj_dim is None

    @torch.inference_mode()
    def begin(
        self, spec: ImageSpec, encoded: Conditioned, image_index: int
    ) -> DiffusersTrajectory[Conditioned, FillState]:
        """Draws the noise; encodes the image of a fill or a source, and the mask, first."""
        schedule = self.schedule(spec, image_index)
        if spec.fill is not None:
            return self._begin_fill(spec, spec.fill, encoded, schedule)
        if spec.source is not None:
            return self._begin_source(spec, spec.source, encoded, schedule)
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

    def _preprocessed(self, image: Pixels, spec: ImageSpec, dtype: torch.dtype) -> torch.Tensor:
        """[1, 3, height, width], -1 to 1, on the device."""
        preprocessed: torch.Tensor = self._fill_pipeline.image_processor.preprocess(
            picture(image), height=spec.height_px, width=spec.width_px
        )
        return preprocessed.float().to(self._device, dtype)

    def _image_latents(self, image: torch.Tensor, schedule: Schedule) -> torch.Tensor:
        """Drawn before the noise, as the pipelines do: a sampling VAE advances the generator.

        The memory layout, too, is the pipelines': convolutions round differently in another.
        """
        encoded: torch.Tensor = self._fill_pipeline._encode_vae_image(
            image=image, generator=schedule.generator
        )
        return encoded

    def _source_latents(self, image: torch.Tensor, schedule: Schedule) -> torch.Tensor:
        """Those that image to image begins with."""
        return self._image_latents(image, schedule)

    def _begin_source(
        self, spec: ImageSpec, source: SourceSpec, encoded: Conditioned, schedule: Schedule
    ) -> DiffusersTrajectory[Conditioned, FillState]:
        """An image's latents, noised for the first timestep that runs, at full strength too."""
        dtype = encoded.context.dtype
        image = self._preprocessed(source.image, spec, dtype)
        image_latents = self._source_latents(image, schedule)
        noise = self._noise(spec, image_latents.shape[1], schedule, dtype)
        latents = schedule.scheduler.add_noise(image_latents, noise, schedule.timesteps[:1])
        return DiffusersTrajectory(spec, schedule, latents, encoded)

    def _begin_fill(
        self, spec: ImageSpec, fill: FillSpec, encoded: Conditioned, schedule: Schedule
    ) -> DiffusersTrajectory[Conditioned, FillState]:
        pipeline, dtype = self._fill_pipeline, encoded.context.dtype
        image = self._preprocessed(fill.image, spec, dtype)
        mask = pipeline.mask_processor.preprocess(
            picture(fill.mask), height=spec.height_px, width=spec.width_px
        )
        from_noise = fill.strength == 1.0
        blended = self._is_blended
        image_latents = None
        if blended or not from_noise:
            # Repeated by the pipelines for each image of a call, which copies them in memory.
            image_latents = self._image_latents(image, schedule).contiguous()
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
        kept = image_latents if blended else None
        state = FillState(small_mask, noise, kept, extra, image, mask.to(self._device, dtype))
        return DiffusersTrajectory(spec, schedule, latents, encoded, state)

    @torch.inference_mode()
    def arguments(
        self, trajectories: Sequence[DiffusersTrajectory[Conditioned, FillState]]
    ) -> dict[str, Any]:
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
        # One trajectory keeps its timestep a scalar, as the stock pipeline passes it.
        alone = len(trajectories) == 1
        timestep = trajectories[0].schedule.timestep if alone else torch.cat(steps)
        given = [one.conditioning for one in trajectories]
        inputs = {
            "sample": torch.cat(rows),
            "timestep": timestep,
            "encoder_hidden_states": torch.cat([c.context for c in given]),
            "added_cond_kwargs": self.added_conditions(given),
        }
        if self._unet.config.time_cond_proj_dim is not None:
            inputs["timestep_cond"] = torch.cat(
                [self._embedded_guidance(one) for one in trajectories]
            )
        return inputs

    def _embedded_guidance(self, one: DiffusersTrajectory[Conditioned, FillState]) -> torch.Tensor:
        """What a UNet that was distilled with guidance takes of its scale: [1, width]."""
        embedded: torch.Tensor = self._pipeline.get_guidance_scale_embedding(
            torch.tensor(one.spec.guidance_scale - 1).repeat(1),
            embedding_dim=self._unet.config.time_cond_proj_dim,
        )
        return embedded.to(self._device, one.latents.dtype)

    def added_conditions(self, given: Sequence[Conditioned]) -> dict[str, torch.Tensor] | None:
        """What the UNet takes besides texts, from each image's conditioning: nothing."""
        del given
        return None

    @torch.inference_mode()
    def scatter(
        self,
        trajectory: DiffusersTrajectory[Conditioned, FillState],
        outputs: torch.Tensor,
        first_row: int,
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
