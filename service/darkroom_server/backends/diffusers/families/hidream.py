"""HiDream-I1, step by step: text to image with four text encoders.

In the order of diffusers' `HiDreamImagePipeline`, but for two things. Sizes are made as asked; that
pipeline first scales every size to about a megapixel, so that images are equal where it keeps the
size. And a scheduler that draws noise draws from the image's generator, not from torch's own.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers import UniPCMultistepScheduler
from diffusers.pipelines.hidream_image.pipeline_hidream_image import calculate_shift

from darkroom_server.backends.diffusers.families.flow import FlowStepModel
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory
from darkroom_server.domain.jobs import ImageSpec


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What all images of a request share; with guidance, rows are [negative, positive].

    `t5` [rows, tokens, width], `llama` [rows, layers, tokens, width], `pooled` [rows, width].
    """

    t5: torch.Tensor
    llama: torch.Tensor
    pooled: torch.Tensor


class HiDreamStepModel(FlowStepModel[Conditioning, None]):
    """A loaded HiDream-I1 pipeline as a `StepModel`.

    Its experts each compute the tokens of all rows that chose them, so that a row's last bits
    depend on its neighbours however many rows there are.
    """

    has_independent_rows: ClassVar[bool] = False
    token_counts: ClassVar[Mapping[str, int]] = dict.fromkeys(
        ("tokenizer", "tokenizer_2", "tokenizer_3", "tokenizer_4"), 128
    )

    def batch_key(self, spec: ImageSpec) -> Hashable:
        """The latents' size: those that are not square are padded, with tokens set to zero."""
        return self._latent_size(spec)

    def rows(self, spec: ImageSpec) -> int:
        """Two with guidance above 1, else one."""
        return 2 if spec.guidance_scale > 1 else 1

    @torch.inference_mode()
    def encoded(self, spec: ImageSpec) -> Conditioning:
        """All text encoders; a negative prompt that is not given is an empty one."""
        texts = [self._text(spec.prompt)]
        if self.rows(spec) == 2:
            texts.insert(0, self._text(spec.negative_prompt or ""))
        t5, llama, pooled = zip(*texts, strict=True)
        return Conditioning(torch.cat(t5), torch.cat(llama), torch.cat(pooled))

    def _text(self, text: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """One text: [1, tokens, width], [1, layers, tokens, width], [1, width]."""

        def make() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            t5, _, llama, _, pooled, _ = self._pipeline.encode_prompt(
                prompt=text, device=self._device, do_classifier_free_guidance=False
            )
            # Layers come first there; here all tensors have their rows first.
            return t5, llama.transpose(0, 1), pooled

        return self._prompts.lookup(text, make)

    def set_timesteps(self, scheduler: Any, spec: ImageSpec, device: torch.device) -> None:
        """Shifted by the most tokens that the transformer takes, whatever the size."""
        shifts = {"mu": calculate_shift(self._transformer.max_seq)}
        if isinstance(scheduler, UniPCMultistepScheduler) and not scheduler.config.get(
            "use_dynamic_shifting"
        ):
            shifts = {}
        scheduler.set_timesteps(spec.step_count, device=device, **shifts)

    @torch.inference_mode()
    def begin(
        self, spec: ImageSpec, encoded: Conditioning, image_index: int
    ) -> DiffusersTrajectory[Conditioning, None]:
        """Draws the noise."""
        schedule = self.schedule(spec, image_index)
        latents = self._first_latents(spec, schedule, encoded.pooled.dtype)
        return DiffusersTrajectory(spec, schedule, latents, encoded)

    @torch.inference_mode()
    def arguments(
        self, trajectories: Sequence[DiffusersTrajectory[Conditioning, None]]
    ) -> dict[str, Any]:
        """Transformer inputs; rows of one trajectory stand together, negative before positive."""
        given = [one.conditioning for one in trajectories]
        rows = [(one, self.rows(one.spec)) for one in trajectories]
        latents = torch.cat([one.latents.expand(n, -1, -1, -1) for one, n in rows])
        timesteps = torch.cat([one.schedule.timestep.expand(n).float() for one, n in rows])
        llama = torch.cat([c.llama for c in given])
        return {
            "hidden_states": latents,
            "timesteps": timesteps,
            "encoder_hidden_states_t5": torch.cat([c.t5 for c in given]),
            "encoder_hidden_states_llama3": llama.transpose(0, 1),
            "pooled_embeds": torch.cat([c.pooled for c in given]),
        }

    @torch.inference_mode()
    def predict(self, inputs: dict[str, Any]) -> torch.Tensor:
        """One transformer evaluation: velocities [rows, C, height/8, width/8].

        The transformer predicts them pointing from noise to image; schedulers take the opposite.
        """
        return -self.network(inputs)
