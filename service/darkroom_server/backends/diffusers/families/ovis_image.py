"""Ovis-Image, step by step: text to image. In the order of diffusers' `OvisImagePipeline`.

Its transformer is FLUX's without a guidance of its own: it guides by a second call. Texts are
padded to one length. Latents are packed: [1, tokens, channels * 4].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from darkroom_server.backends.diffusers.families.two_calls import (
    Text,
    TwoCallStepModel,
    TwoTexts,
)
from darkroom_server.backends.diffusers.networks.network import Inputs
from darkroom_server.backends.diffusers.token_limits import TokenLimits
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory
from darkroom_server.domain.jobs import ImageSpec

#: Tokens of a text that the transformer is given.
TOKEN_COUNT = 256


class OvisImageStepModel(TwoCallStepModel[None]):
    """A loaded Ovis-Image pipeline as a `StepModel`."""

    constants: ClassVar[Mapping[str, Any]] = {"joint_attention_kwargs": {}}

    def token_limits(self) -> TokenLimits:
        """What is left to a prompt beside the end of the conversation that it stands in."""
        pipeline = self._pipeline
        [around] = pipeline._get_messages("")
        ids = pipeline.tokenizer(around, add_special_tokens=False).input_ids
        after = max(0, len(ids) - pipeline.user_prompt_begin_id)
        return [(pipeline.tokenizer, max(1, TOKEN_COUNT - after))]

    def text(self, text: str, *, is_negative: bool) -> Text:
        """Qwen's last states, zero where they are padding: [1, tokens, width]."""
        del is_negative

        def make() -> tuple[torch.Tensor, ...]:
            states, *_ = self._pipeline.encode_prompt(
                prompt=text,
                do_classifier_free_guidance=False,
                device=self._device,
                max_sequence_length=TOKEN_COUNT,
            )
            return (states,)

        return {"encoder_hidden_states": self._prompts.lookup(text, make)[0]}

    def set_timesteps(self, scheduler: Any, spec: ImageSpec, device: torch.device) -> None:
        """Evenly spaced sigmas, or the scheduler's own, shifted by the number of image tokens."""
        self._set_shifted(scheduler, spec.step_count, device, self._shift(scheduler, spec))

    @torch.inference_mode()
    def begin(
        self, spec: ImageSpec, encoded: TwoTexts, image_index: int
    ) -> DiffusersTrajectory[TwoTexts, None]:
        """Draws the noise."""
        schedule = self.schedule(spec, image_index)
        dtype = encoded.prompt["encoder_hidden_states"].dtype
        latents = self._packed(self._noise(spec, schedule, dtype))
        return DiffusersTrajectory(spec, schedule, latents, encoded)

    def _packed(self, latents: torch.Tensor) -> torch.Tensor:
        packed: torch.Tensor = self._pipeline._pack_latents(latents, *latents.shape)
        return packed

    def picture_arguments(
        self, trajectories: Sequence[DiffusersTrajectory[TwoTexts, None]]
    ) -> Inputs:
        """Packed latents; ids are shared by the batch, whose sizes are all equal."""
        first = trajectories[0]
        dtype, states = first.latents.dtype, first.conditioning.prompt["encoder_hidden_states"]
        timesteps = torch.cat([one.schedule.timestep.expand(1).to(dtype) for one in trajectories])
        height, width = self._latent_size(first.spec)
        # Of a text's tokens two of the three numbers count up.
        places = torch.arange(states.shape[1], device=self._device, dtype=states.dtype)
        return {
            "hidden_states": torch.cat([one.latents for one in trajectories]),
            "timestep": timesteps / 1000,
            "txt_ids": torch.stack([torch.zeros_like(places), places, places], dim=1),
            "img_ids": self._pipeline._prepare_latent_image_ids(
                1, height // 2, width // 2, self._device, dtype
            ),
        }

    def unpacked(self, latents: torch.Tensor, spec: ImageSpec) -> torch.Tensor:
        """Packed latents as the VAE takes them: [1, C, h, w]."""
        unpacked: torch.Tensor = self._pipeline._unpack_latents(
            latents, spec.height_px, spec.width_px, self._pipeline.vae_scale_factor
        )
        return unpacked
