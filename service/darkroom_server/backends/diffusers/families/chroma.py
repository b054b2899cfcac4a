"""Chroma, step by step: text to image, image to image, and fills by blending.

In the order of diffusers' `ChromaPipeline`, `ChromaImg2ImgPipeline` and `ChromaInpaintPipeline`.
Its transformer is FLUX's without a guidance of its own: it guides by a second call. Texts are
padded to one length, and what is padding but for its first token is masked. Latents are packed:
[1, tokens, channels * 4].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from darkroom_server.backends.diffusers.families.two_calls import (
    Text,
    TwoCallStepModel,
    TwoTexts,
)
from darkroom_server.backends.diffusers.networks.network import Inputs
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory
from darkroom_server.domain.jobs import ImageSpec, Task

#: Tokens that every text is padded to.
TOKEN_COUNT = 512


class ChromaStepModel(TwoCallStepModel[None]):
    """A loaded Chroma pipeline as a `StepModel`."""

    constants: ClassVar[Mapping[str, Any]] = {"joint_attention_kwargs": {}}
    token_counts: ClassVar[Mapping[str, int]] = {"tokenizer": TOKEN_COUNT}

    def text(self, text: str, *, is_negative: bool) -> Text:
        """T5's states [1, tokens, width], and the attention mask [1, tokens]."""
        del is_negative

        def make() -> tuple[torch.Tensor, ...]:
            states, _, mask, *_ = self._pipeline.encode_prompt(
                prompt=text, device=self._device, do_classifier_free_guidance=False
            )
            return states, mask

        states, mask = self._prompts.lookup(text, make)
        return {"encoder_hidden_states": states, "attention_mask": mask}

    def set_timesteps(self, scheduler: Any, spec: ImageSpec, device: torch.device) -> None:
        """Evenly spaced sigmas, shifted by the number of image tokens."""
        sigmas = np.linspace(1.0, 1 / spec.step_count, spec.step_count)
        scheduler.set_timesteps(sigmas=sigmas, device=device, mu=self._shift(scheduler, spec))

    @torch.inference_mode()
    def begin(
        self, spec: ImageSpec, encoded: TwoTexts, image_index: int
    ) -> DiffusersTrajectory[TwoTexts, None]:
        """Draws the noise, for images to begin with encodes these first; masks reach over it."""
        schedule = self.schedule(spec, image_index)
        dtype = encoded.prompt["encoder_hidden_states"].dtype
        latents, repainting = self._begun(spec, schedule, dtype)
        packed = self._packed(latents)
        other = None if encoded.other is None else self._over_picture(encoded.other, packed)
        texts = TwoTexts(self._over_picture(encoded.prompt, packed), other)
        begun = DiffusersTrajectory[TwoTexts, None](spec, schedule, packed, texts)
        begun.repainting = repainting
        return begun

    def _packed(self, latents: torch.Tensor) -> torch.Tensor:
        packed: torch.Tensor = self._pipeline._pack_latents(latents, *latents.shape)
        return packed

    def _over_picture(self, text: Text, latents: torch.Tensor) -> Text:
        mask = self._pipeline._prepare_attention_mask(
            1, latents.shape[1], latents.dtype, text["attention_mask"]
        )
        return text | {"attention_mask": mask}

    def picture_arguments(
        self, trajectories: Sequence[DiffusersTrajectory[TwoTexts, None]]
    ) -> Inputs:
        """Packed latents; ids are shared by the batch, whose sizes are all equal."""
        first = trajectories[0]
        dtype, states = first.latents.dtype, first.conditioning.prompt["encoder_hidden_states"]
        timesteps = torch.cat([self._timestep(one) for one in trajectories])
        height, width = self._latent_size(first.spec)
        return {
            "hidden_states": torch.cat([one.latents for one in trajectories]),
            "timestep": timesteps,
            "txt_ids": torch.zeros(states.shape[1], 3, device=self._device, dtype=states.dtype),
            "img_ids": self._pipeline._prepare_latent_image_ids(
                1, height // 2, width // 2, self._device, dtype
            ),
        }

    def _timestep(self, one: DiffusersTrajectory[TwoTexts, None]) -> torch.Tensor:
        """[1], divided in the latents' type; image to image divides it before."""
        timestep, dtype = one.schedule.timestep.expand(1), one.latents.dtype
        if one.spec.task is Task.IMAGE_TO_IMAGE:
            return (timestep / 1000).to(dtype)
        return timestep.to(dtype) / 1000

    def unpacked(self, latents: torch.Tensor, spec: ImageSpec) -> torch.Tensor:
        """Packed latents as the VAE takes them: [1, C, h, w]."""
        unpacked: torch.Tensor = self._pipeline._unpack_latents(
            latents, spec.height_px, spec.width_px, self._pipeline.vae_scale_factor
        )
        return unpacked
