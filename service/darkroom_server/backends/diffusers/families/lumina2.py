"""Lumina-Image 2, step by step: text to image. In the order of diffusers' `Lumina2Pipeline`.

It guides by a second call, and its timesteps and velocities point the other way.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from darkroom_server.backends.diffusers.families.text_lengths import TextLengths
from darkroom_server.backends.diffusers.families.two_calls import (
    Text,
    TwoCallStepModel,
    TwoTexts,
    renormalized,
)
from darkroom_server.backends.diffusers.networks.network import Inputs
from darkroom_server.backends.diffusers.token_limits import TokenLimits
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec

#: Tokens that every text is padded to, the pipeline's own words before a prompt among them.
TOKEN_COUNT = 256
#: What stands between those words and the prompt.
_PROMPT_START = " <Prompt Start> "


class Lumina2StepModel(TwoCallStepModel[None]):
    """A loaded Lumina-Image 2 pipeline as a `StepModel`."""

    constants: ClassVar[Mapping[str, Any]] = {"attention_kwargs": None}
    token_counts: ClassVar[Mapping[str, int]] = {"tokenizer": TOKEN_COUNT}

    def __init__(
        self, pipeline: Any, *, allowed_schedulers: Sequence[str], prompts: PromptCache
    ) -> None:
        super().__init__(pipeline, allowed_schedulers=allowed_schedulers, prompts=prompts)
        self._length = TextLengths(pipeline.tokenizer, _measured_length)

    def batch_key(self, spec: ImageSpec) -> Hashable:
        """The latents' size, and each text's length: rows are padded to the longest among them."""
        lengths = [self._length(self._told(spec.prompt))]
        if self.is_guided(spec):
            lengths.append(self._length(spec.negative_prompt or ""))
        return (*self._latent_size(spec), *lengths)

    def token_limits(self) -> TokenLimits:
        """Less what stands before a prompt."""
        tokenizer = self._pipeline.tokenizer
        ahead = len(tokenizer(self._told("")).input_ids) - len(tokenizer("").input_ids)
        return [(tokenizer, TOKEN_COUNT - ahead)]

    def _told(self, prompt: str) -> str:
        return f"{self._pipeline.system_prompt}{_PROMPT_START}{prompt}"

    def text(self, text: str, *, is_negative: bool) -> Text:
        """Gemma's states [1, tokens, width] and which are texts [1, tokens]."""
        instructed = text if is_negative else self._told(text)

        def make() -> tuple[torch.Tensor, ...]:
            states, mask = self._pipeline._get_gemma_prompt_embeds(
                prompt=instructed, device=self._device, max_sequence_length=TOKEN_COUNT
            )
            return states, mask

        states, mask = self._prompts.lookup(instructed, make)
        return {"encoder_hidden_states": states, "encoder_attention_mask": mask}

    def set_timesteps(self, scheduler: Any, spec: ImageSpec, device: torch.device) -> None:
        """Evenly spaced sigmas; where they are shifted, the pipeline counts channels as tokens."""
        config = scheduler.config
        mu = calculate_shift(
            self._latent_channels(),
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        sigmas = np.linspace(1.0, 1 / spec.step_count, spec.step_count)
        scheduler.set_timesteps(sigmas=sigmas, device=device, mu=mu)

    @torch.inference_mode()
    def begin(
        self, spec: ImageSpec, encoded: TwoTexts, image_index: int
    ) -> DiffusersTrajectory[TwoTexts, None]:
        """Draws the noise."""
        schedule = self.schedule(spec, image_index)
        latents = self._noise(spec, schedule, encoded.prompt["encoder_hidden_states"].dtype)
        return DiffusersTrajectory(spec, schedule, latents, encoded)

    def picture_arguments(
        self, trajectories: Sequence[DiffusersTrajectory[TwoTexts, None]]
    ) -> Inputs:
        """Latents, and timesteps from 0 (noise) to 1."""
        timesteps = [
            1 - one.schedule.timestep / one.schedule.scheduler.config.num_train_timesteps
            for one in trajectories
        ]
        return {
            "hidden_states": torch.cat([one.latents for one in trajectories]),
            "timestep": torch.cat([timestep.expand(1) for timestep in timesteps]),
        }

    def guided(
        self, one: DiffusersTrajectory[TwoTexts, None], predicted: torch.Tensor
    ) -> torch.Tensor:
        """The negated velocity; with guidance, of two evaluations, rescaled to the first's norm."""
        guided = super().guided(one, predicted)
        if predicted.shape[1] == 1:
            return -guided
        return -renormalized(guided, predicted[:, 0])


def _measured_length(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, max_length=TOKEN_COUNT, truncation=True).input_ids)
