"""Qwen-Image, step by step: text to image, image to image, and fills by blending.

In the order of diffusers' `QwenImagePipeline`, `QwenImageImg2ImgPipeline` and
`QwenImageInpaintPipeline`. It guides by a second call where there is a negative prompt. Latents are
packed: [1, tokens, channels * 4]; the VAE's have a dimension of frames besides, of which a picture
is one.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux_img2img import retrieve_latents

from darkroom_server.backends.diffusers.families.text_lengths import TextLengths
from darkroom_server.backends.diffusers.families.two_calls import (
    Text,
    TwoCallStepModel,
    TwoTexts,
    renormalized,
)
from darkroom_server.backends.diffusers.networks.network import Inputs
from darkroom_server.backends.diffusers.schedule import Schedule
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec

#: Tokens of a text that the transformer is given.
TOKEN_COUNT = 512


class QwenImageStepModel(TwoCallStepModel[None]):
    """A loaded Qwen-Image pipeline as a `StepModel`."""

    constants: ClassVar[Mapping[str, Any]] = {
        "attention_kwargs": {},
        "guidance": None,
        "encoder_hidden_states_mask": None,
    }
    token_counts: ClassVar[Mapping[str, int]] = {"tokenizer": TOKEN_COUNT}

    def __init__(
        self, pipeline: Any, *, allowed_schedulers: Sequence[str], prompts: PromptCache
    ) -> None:
        super().__init__(pipeline, allowed_schedulers=allowed_schedulers, prompts=prompts)
        self._length = TextLengths(pipeline.tokenizer, self._measured_length)

    def is_guided(self, spec: ImageSpec) -> bool:
        """Only away from something."""
        return spec.guidance_scale > 1 and spec.negative_prompt is not None

    def batch_key(self, spec: ImageSpec) -> Hashable:
        """The latents' size, and each text's length: none is padded."""
        texts = [spec.prompt, spec.negative_prompt or ""][: 1 + self.is_guided(spec)]
        return (*self._latent_size(spec), *map(self._length, texts))

    def _measured_length(self, tokenizer: Any, text: str) -> int:
        template: str = self._pipeline.prompt_template_encode
        dropped: int = self._pipeline.prompt_template_encode_start_idx
        longest = self._pipeline.tokenizer_max_length + dropped
        ids = tokenizer(template.format(text), max_length=longest, truncation=True).input_ids
        return min(len(ids) - dropped, TOKEN_COUNT)

    def text(self, text: str, *, is_negative: bool) -> Text:
        """The language model's last states, of the text alone: [1, tokens, width]."""
        del is_negative

        def make() -> tuple[torch.Tensor, ...]:
            states, _ = self._pipeline.encode_prompt(
                prompt=text, device=self._device, max_sequence_length=TOKEN_COUNT
            )
            return (states,)

        return {"encoder_hidden_states": self._prompts.lookup(text, make)[0]}

    def set_timesteps(self, scheduler: Any, spec: ImageSpec, device: torch.device) -> None:
        """Evenly spaced sigmas, shifted by the number of image tokens."""
        sigmas = np.linspace(1.0, 1 / spec.step_count, spec.step_count)
        scheduler.set_timesteps(sigmas=sigmas, device=device, mu=self._shift(scheduler, spec))

    @torch.inference_mode()
    def begin(
        self, spec: ImageSpec, encoded: TwoTexts, image_index: int
    ) -> DiffusersTrajectory[TwoTexts, None]:
        """Draws the noise; for image to image and fills, encodes the image first."""
        schedule = self.schedule(spec, image_index)
        dtype = encoded.prompt["encoder_hidden_states"].dtype
        latents, repainting = self._begun(spec, schedule, dtype)
        packed = self._packed(latents)
        begun = DiffusersTrajectory[TwoTexts, None](spec, schedule, packed, encoded)
        begun.repainting = repainting
        return begun

    def _packed(self, latents: torch.Tensor) -> torch.Tensor:
        packed: torch.Tensor = self._pipeline._pack_latents(latents, *latents.shape)
        return packed

    def _latent_channels(self) -> int:
        channels: int = self._transformer.config.in_channels // 4
        return channels

    def _image_latents(self, image: torch.Tensor, schedule: Schedule) -> torch.Tensor:
        latents = retrieve_latents(
            self.vae.encode(image.unsqueeze(2)), generator=schedule.generator
        )
        mean, scale = self._statistics(latents)
        scaled: torch.Tensor = (latents - mean) * scale
        return scaled[:, :, 0]

    def _statistics(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean of each channel, and by what its latents are scaled: [1, C, 1, 1, 1]."""
        config, shape = self.vae.config, (1, self.vae.config.z_dim, 1, 1, 1)
        mean = torch.tensor(config.latents_mean).view(shape).to(latents.device, latents.dtype)
        deviation = torch.tensor(config.latents_std).view(shape).to(latents.device, latents.dtype)
        return mean, 1.0 / deviation

    def picture_arguments(
        self, trajectories: Sequence[DiffusersTrajectory[TwoTexts, None]]
    ) -> Inputs:
        """Packed latents, and how many tokens high and wide each picture is."""
        dtype = trajectories[0].latents.dtype
        timesteps = torch.cat([one.schedule.timestep.expand(1).to(dtype) for one in trajectories])
        height, width = self._latent_size(trajectories[0].spec)
        return {
            "hidden_states": torch.cat([one.latents for one in trajectories]),
            "timestep": timesteps / 1000,
            "img_shapes": [[(1, height // 2, width // 2)]] * len(trajectories),
        }

    def guided(
        self, one: DiffusersTrajectory[TwoTexts, None], predicted: torch.Tensor
    ) -> torch.Tensor:
        """Classifier-free guidance of two evaluations, rescaled to the norm of the first."""
        guided = super().guided(one, predicted)
        return guided if predicted.shape[1] == 1 else renormalized(guided, predicted[:, 0])

    def unpacked(self, latents: torch.Tensor, spec: ImageSpec) -> torch.Tensor:
        """Packed latents as the VAE takes them, but for the frames: [1, C, h, w]."""
        unpacked: torch.Tensor = self._pipeline._unpack_latents(
            latents, spec.height_px, spec.width_px, self._pipeline.vae_scale_factor
        )
        return unpacked[:, :, 0]

    def to_image(self, latents: torch.Tensor) -> torch.Tensor:
        """Runs the VAE, in its own type, on a video of one frame: [1, 3, height, width]."""
        video = latents.unsqueeze(2).to(self.vae.dtype)
        mean, scale = self._statistics(video)
        return self.decoder(video / scale + mean)[:, :, 0]
