"""CogView4, step by step: text to image. In the order of diffusers' `CogView4Pipeline`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.pipelines.cogview4.pipeline_cogview4 import calculate_shift

from darkroom_server.backends.diffusers.families.text_lengths import TextLengths
from darkroom_server.backends.diffusers.families.two_calls import (
    Text,
    TwoCallStepModel,
    TwoTexts,
)
from darkroom_server.backends.diffusers.networks.network import Inputs
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec

#: Tokens of a text that the encoder reads.
TOKEN_COUNT = 1024
#: Tokens: texts are padded to a multiple of this.
_PADDED_TOKENS = 16


class CogView4StepModel(TwoCallStepModel[None]):
    """A loaded CogView4 pipeline as a `StepModel`; noise is of FP32."""

    constants: ClassVar[Mapping[str, Any]] = {"attention_kwargs": None}
    token_counts: ClassVar[Mapping[str, int]] = {"tokenizer": TOKEN_COUNT}

    def __init__(
        self, pipeline: Any, *, allowed_schedulers: Sequence[str], prompts: PromptCache
    ) -> None:
        super().__init__(pipeline, allowed_schedulers=allowed_schedulers, prompts=prompts)
        self._length = TextLengths(pipeline.tokenizer, _padded_length)

    def batch_key(self, spec: ImageSpec) -> Hashable:
        """The latents' size, and each text's padded length."""
        texts = [spec.prompt, spec.negative_prompt or ""][: 1 + self.is_guided(spec)]
        return (*self._latent_size(spec), *map(self._length, texts))

    def _latent_size(self, spec: ImageSpec) -> tuple[int, int]:
        scale = self._pipeline.vae_scale_factor
        return spec.height_px // scale, spec.width_px // scale

    def text(self, text: str, *, is_negative: bool) -> Text:
        """GLM's states: [1, tokens, width]."""
        del is_negative

        def make() -> tuple[torch.Tensor, ...]:
            states, _ = self._pipeline.encode_prompt(
                text, do_classifier_free_guidance=False, device=self._device
            )
            return (states,)

        return {"encoder_hidden_states": self._prompts.lookup(text, make)[0]}

    def set_timesteps(self, scheduler: Any, spec: ImageSpec, device: torch.device) -> None:
        """Whole timesteps, and their sigmas shifted by the number of image tokens."""
        config = scheduler.config
        height, width = self._latent_size(spec)
        mu = calculate_shift(
            height * width // self._transformer.config.patch_size**2,
            config.get("base_image_seq_len", 256),
            config.get("base_shift", 0.25),
            config.get("max_shift", 0.75),
        )
        even = np.linspace(config.num_train_timesteps, 1.0, spec.step_count)
        timesteps = even.astype(np.int64).astype(np.float32)
        scheduler.set_timesteps(
            timesteps=timesteps,
            sigmas=timesteps / config.num_train_timesteps,
            device=device,
            mu=mu,
        )

    @torch.inference_mode()
    def begin(
        self, spec: ImageSpec, encoded: TwoTexts, image_index: int
    ) -> DiffusersTrajectory[TwoTexts, None]:
        """Draws the noise."""
        schedule = self.schedule(spec, image_index)
        latents = self._noise(spec, schedule, torch.float32)
        return DiffusersTrajectory(spec, schedule, latents, encoded)

    def picture_arguments(
        self, trajectories: Sequence[DiffusersTrajectory[TwoTexts, None]]
    ) -> Inputs:
        """Latents in the transformer's type, and the size that it was asked for, uncropped."""
        spec, count = trajectories[0].spec, len(trajectories)
        dtype = trajectories[0].conditioning.prompt["encoder_hidden_states"].dtype
        size = torch.tensor([(spec.height_px, spec.width_px)], dtype=dtype, device=self._device)
        latents = [one.latents.to(self._transformer.dtype) for one in trajectories]
        return {
            "hidden_states": torch.cat(latents),
            "timestep": torch.cat([one.schedule.timestep.expand(1) for one in trajectories]),
            "original_size": size.repeat(count, 1),
            "target_size": size.repeat(count, 1),
            "crop_coords": torch.zeros_like(size).repeat(count, 1),
        }

    def to_image(self, latents: torch.Tensor) -> torch.Tensor:
        """Runs the VAE, in its own type; latents are scaled only."""
        return self.decoder(latents.to(self.vae.dtype) / self.vae.config.scaling_factor)


def _padded_length(tokenizer: Any, text: str) -> int:
    count = len(tokenizer(text, max_length=TOKEN_COUNT, truncation=True).input_ids)
    return -(-count // _PADDED_TOKENS) * _PADDED_TOKENS
