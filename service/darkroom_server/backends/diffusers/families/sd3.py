"""Stable Diffusion 3 and 3.5, step by step: text to image and image to image.

In the order of diffusers' `StableDiffusion3Pipeline` and `StableDiffusion3Img2ImgPipeline`. The T5
encoder may be absent: its place in the context is zeros then.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift

from darkroom_server.backends.diffusers.families.flow import FlowStepModel
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory
from darkroom_server.domain.jobs import ImageSpec


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What all images of a request share; with guidance, rows are [negative, positive].

    `context` [rows, tokens, width], `pooled` [rows, width].
    """

    context: torch.Tensor
    pooled: torch.Tensor


class Sd3StepModel(FlowStepModel[Conditioning, None]):
    """A loaded Stable Diffusion 3 pipeline as a `StepModel`."""

    constants: ClassVar[Mapping[str, Any]] = {"joint_attention_kwargs": None}
    token_counts: ClassVar[Mapping[str, int]] = {"tokenizer_3": 256}

    def batch_key(self, spec: ImageSpec) -> Hashable:
        """The latents' size; all prompts are padded to one length."""
        return self._latent_size(spec)

    def _latent_size(self, spec: ImageSpec) -> tuple[int, int]:
        scale = self._pipeline.vae_scale_factor
        return spec.height_px // scale, spec.width_px // scale

    def rows(self, spec: ImageSpec) -> int:
        """Two with guidance above 1, else one."""
        return 2 if spec.guidance_scale > 1 else 1

    @torch.inference_mode()
    def encoded(self, spec: ImageSpec) -> Conditioning:
        """All text encoders; a negative prompt that is not given is an empty one."""
        context, pooled = self._text(spec.prompt)
        if self.rows(spec) == 2:
            negative, negative_pooled = self._text(spec.negative_prompt or "")
            context = torch.cat([negative, context])
            pooled = torch.cat([negative_pooled, pooled])
        return Conditioning(context, pooled)

    def _text(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        """The context [1, tokens, width] and the pooled vector [1, width] of one text."""

        def make() -> tuple[torch.Tensor, torch.Tensor]:
            context, _, pooled, _ = self._pipeline.encode_prompt(
                prompt=text,
                prompt_2=None,
                prompt_3=None,
                device=self._device,
                do_classifier_free_guidance=False,
            )
            return context, pooled

        return self._prompts.lookup(text, make)

    def set_timesteps(self, scheduler: Any, spec: ImageSpec, device: torch.device) -> None:
        """Shifted by the number of image tokens where the scheduler does, else by its own shift."""
        config, shifts = scheduler.config, dict[str, float]()
        if config.get("use_dynamic_shifting"):
            height, width = self._latent_size(spec)
            patch = self._transformer.config.patch_size
            shifts["mu"] = calculate_shift(
                (height // patch) * (width // patch),
                config.get("base_image_seq_len", 256),
                config.get("max_image_seq_len", 4096),
                config.get("base_shift", 0.5),
                config.get("max_shift", 1.16),
            )
        scheduler.set_timesteps(spec.step_count, device=device, **shifts)

    @torch.inference_mode()
    def begin(
        self, spec: ImageSpec, encoded: Conditioning, image_index: int
    ) -> DiffusersTrajectory[Conditioning, None]:
        """Draws the noise; for image to image, encodes the image first."""
        schedule = self.schedule(spec, image_index)
        latents = self._first_latents(spec, schedule, encoded.context.dtype)
        return DiffusersTrajectory(spec, schedule, latents, encoded)

    @torch.inference_mode()
    def arguments(
        self, trajectories: Sequence[DiffusersTrajectory[Conditioning, None]]
    ) -> dict[str, Any]:
        """Transformer inputs; rows of one trajectory stand together, negative before positive."""
        given = [one.conditioning for one in trajectories]
        rows = [self.rows(one.spec) for one in trajectories]
        repeated = [
            one.latents.expand(n, -1, -1, -1) for one, n in zip(trajectories, rows, strict=True)
        ]
        timesteps = [
            one.schedule.timestep.expand(n) for one, n in zip(trajectories, rows, strict=True)
        ]
        return {
            "hidden_states": torch.cat(repeated),
            "timestep": torch.cat(timesteps),
            "encoder_hidden_states": torch.cat([c.context for c in given]),
            "pooled_projections": torch.cat([c.pooled for c in given]),
        }
