"""FLUX.2 dev, step by step: text to image, and edits by reference images.

In the order of diffusers' `Flux2Pipeline`. It goes on as klein does, but for its text encoder,
Mistral 3, and for its guidance, which is a number that the transformer is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from darkroom_server.backends.diffusers.families.flux2_klein import (
    Conditioning,
    Flux2KleinStepModel,
)
from darkroom_server.backends.diffusers.token_limits import TokenLimits
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory
from darkroom_server.domain.jobs import ImageSpec


class Flux2StepModel(Flux2KleinStepModel):
    """A loaded FLUX.2 dev pipeline as a `StepModel`."""

    constants: ClassVar[Mapping[str, Any]] = {"joint_attention_kwargs": None}

    def _is_guided(self, spec: ImageSpec) -> bool:
        """Never by a second evaluation."""
        del spec
        return False

    def token_limits(self) -> TokenLimits:
        """What is left to a prompt beside the words that the pipeline puts before it."""
        pipeline = self._pipeline
        # As it is published, it stands in a processor that reads pictures, too.
        tokenizer = getattr(pipeline.tokenizer, "tokenizer", pipeline.tokenizer)
        before = len(tokenizer(pipeline.system_message).input_ids)
        return [(tokenizer, max(1, pipeline.tokenizer_max_length - before))]

    @torch.inference_mode()
    def arguments(
        self, trajectories: Sequence[DiffusersTrajectory[Conditioning, None]]
    ) -> dict[str, Any]:
        """Transformer inputs; the guidance is each row's own."""
        scales = [one.spec.guidance_scale for one in trajectories]
        guidance = torch.tensor(scales, device=self._device, dtype=torch.float32)
        return super().arguments(trajectories) | {"guidance": guidance}

    def _placed(self, latents: torch.Tensor, spec: ImageSpec) -> torch.Tensor:
        placed: torch.Tensor = self._pipeline._unpack_latents_with_ids(
            latents, self._latent_ids(spec)
        )
        return placed
