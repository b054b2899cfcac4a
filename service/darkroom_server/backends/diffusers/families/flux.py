"""FLUX.1, step by step: schnell and dev, text to image, image to image, and fills by blending.

Every tensor operation and every random draw happens in the order of diffusers' `FluxPipeline`,
`FluxImg2ImgPipeline` and `FluxInpaintPipeline`, so that an image run alone is bit-equal to the
stock pipeline's with `torch.Generator("cpu").manual_seed(seed)`. Latents are packed: [1, tokens,
channels * 4].
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from darkroom_server.backends.diffusers.families.flow import FlowStepModel
from darkroom_server.backends.diffusers.first_block import (
    FirstBlockCache,
    FirstBlockMemory,
)
from darkroom_server.backends.diffusers.schedule import Schedule
from darkroom_server.backends.diffusers.token_limits import TokenLimits
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec

#: Prompt tokens that the T5 encoder pads to. The padding is attended, so that the number changes
#: the image: schnell was distilled with 256, models with guidance embedding are used with 512.
SCHNELL_TOKENS, GUIDED_TOKENS = 256, 512


@dataclass(frozen=True, slots=True)
class Conditioning:
    """Denoiser inputs that all images of a request share.

    `context` [1, tokens, width], `pooled` [1, width], `text_ids` [tokens, 3].
    """

    context: torch.Tensor
    pooled: torch.Tensor
    text_ids: torch.Tensor


class FluxStepModel(FlowStepModel[Conditioning, torch.Tensor]):
    """A loaded FLUX.1 pipeline as a `StepModel`."""

    constants: ClassVar[Mapping[str, Any]] = {"joint_attention_kwargs": {}}
    size_axes: ClassVar[Mapping[str, tuple[int, ...]]] = {"hidden_states": (1,), "img_ids": (0,)}

    def __init__(
        self, pipeline: Any, *, allowed_schedulers: Sequence[str], prompts: PromptCache
    ) -> None:
        super().__init__(pipeline, allowed_schedulers=allowed_schedulers, prompts=prompts)
        self._is_guided = bool(pipeline.transformer.config.guidance_embeds)
        longest = GUIDED_TOKENS if self._is_guided else SCHNELL_TOKENS
        self._token_count = min(longest, pipeline.tokenizer_2.model_max_length)
        self._first_block = FirstBlockCache(pipeline.transformer)

    def token_limits(self) -> TokenLimits:
        """T5's alone: CLIP reads less, but gives no more than a summary."""
        return [(self._pipeline.tokenizer_2, self._token_count)]

    def batch_key(self, spec: ImageSpec) -> Hashable:
        """The latents' size; all prompts are padded to one length.

        Images with a feature cache only meet their like, so that they change no other's steps.
        """
        size = self._latent_size(spec)
        return size if spec.feature_cache is None else (*size, "feature cache")

    def rows(self, spec: ImageSpec) -> int:
        """One: guidance is an input of the model."""
        del spec
        return 1

    @torch.inference_mode()
    def encoded(self, spec: ImageSpec) -> Conditioning:
        """Both text encoders."""

        def make() -> tuple[torch.Tensor, ...]:
            encoded: tuple[torch.Tensor, ...] = self._pipeline.encode_prompt(
                prompt=spec.prompt,
                prompt_2=None,
                device=self._device,
                max_sequence_length=self._token_count,
            )
            return encoded

        return Conditioning(*self._prompts.lookup(spec.prompt, make))

    def set_timesteps(self, scheduler: Any, spec: ImageSpec, device: torch.device) -> None:
        """Evenly spaced sigmas, or the scheduler's own, shifted by the number of image tokens."""
        self._set_shifted(scheduler, spec.step_count, device, self._shift(scheduler, spec))

    @torch.inference_mode()
    def begin(
        self, spec: ImageSpec, encoded: Conditioning, image_index: int
    ) -> DiffusersTrajectory[Conditioning, torch.Tensor]:
        """Draws the noise; for image to image and fills, encodes the image first."""
        schedule = self.schedule(spec, image_index)
        latents, repainting = self._begun(spec, schedule, encoded.context.dtype)
        begun = self._trajectory(spec, schedule, latents, encoded)
        begun.repainting = repainting
        return begun

    def _trajectory(
        self,
        spec: ImageSpec,
        schedule: Schedule,
        latents: torch.Tensor,
        encoded: Conditioning,
        condition: torch.Tensor | None = None,
    ) -> DiffusersTrajectory[Conditioning, torch.Tensor]:
        made = DiffusersTrajectory(spec, schedule, self._packed(latents), encoded, condition)
        if spec.feature_cache is not None:
            made.memory = FirstBlockMemory(spec.feature_cache.threshold)
        return made

    def _packed(self, latents: torch.Tensor) -> torch.Tensor:
        packed: torch.Tensor = self._pipeline._pack_latents(latents, *latents.shape)
        return packed

    @torch.inference_mode()
    def arguments(
        self, trajectories: Sequence[DiffusersTrajectory[Conditioning, torch.Tensor]]
    ) -> dict[str, Any]:
        """Transformer inputs; ids are shared by the batch, whose sizes are all equal."""
        first, given = trajectories[0], [one.conditioning for one in trajectories]
        dtype = first.latents.dtype
        timesteps = torch.cat([one.schedule.timestep.expand(1).to(dtype) for one in trajectories])
        guidance = None
        if self._is_guided:
            scales = [one.spec.guidance_scale for one in trajectories]
            guidance = torch.tensor(scales, device=self._device, dtype=torch.float32)
        height, width = self._latent_size(first.spec)
        return {
            "hidden_states": torch.cat([self._model_input(one) for one in trajectories]),
            "timestep": timesteps / 1000,
            "guidance": guidance,
            "pooled_projections": torch.cat([c.pooled for c in given]),
            "encoder_hidden_states": torch.cat([c.context for c in given]),
            "txt_ids": given[0].text_ids,
            "img_ids": self._pipeline._prepare_latent_image_ids(
                1, height // 2, width // 2, self._device, dtype
            ),
            "memories": [one.memory for one in trajectories if one.memory is not None],
        }

    def _model_input(self, one: DiffusersTrajectory[Conditioning, torch.Tensor]) -> torch.Tensor:
        """What one image feeds to the transformer: [1, tokens, channels]."""
        return one.latents

    @torch.inference_mode()
    def predict(self, inputs: dict[str, Any]) -> torch.Tensor:
        """One evaluation of the network, or of what the feature caches leave of it."""
        inputs = dict(inputs)
        if memories := inputs.pop("memories"):
            return self._first_block.denoise(inputs, memories)
        return self.network(inputs)

    def unpacked(self, latents: torch.Tensor, spec: ImageSpec) -> torch.Tensor:
        """Packed latents as the VAE takes them: [1, C, h, w]."""
        unpacked: torch.Tensor = self._pipeline._unpack_latents(
            latents, spec.height_px, spec.width_px, self._pipeline.vae_scale_factor
        )
        return unpacked
