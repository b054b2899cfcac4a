"""AuraFlow, step by step: text to image. In the order of diffusers' `AuraFlowPipeline`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from darkroom_server.backends.diffusers.families.guided_rows import (
    GuidedRowsStepModel,
    TextRows,
)
from darkroom_server.backends.diffusers.step_model import kept_dtype
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory

#: Tokens that every text is padded to.
TOKEN_COUNT = 256


class AuraFlowStepModel(GuidedRowsStepModel):
    """A loaded AuraFlow pipeline as a `StepModel`."""

    constants: ClassVar[Mapping[str, Any]] = {"attention_kwargs": None}
    token_counts: ClassVar[Mapping[str, int]] = {"tokenizer": TOKEN_COUNT}

    def text(self, text: str, *, is_negative: bool) -> dict[str, torch.Tensor]:
        """T5's states, zeros where there is no text: [1, tokens, width]."""
        del is_negative

        def make() -> tuple[torch.Tensor, ...]:
            states, *_ = self._pipeline.encode_prompt(
                text, do_classifier_free_guidance=False, device=self._device
            )
            return (states,)

        return {"encoder_hidden_states": self._prompts.lookup(text, make)[0]}

    def noise_dtype(self, encoded: TextRows) -> torch.dtype:
        """That of the texts."""
        return encoded.arguments["encoder_hidden_states"].dtype

    def timestep(self, one: DiffusersTrajectory[TextRows, None]) -> torch.Tensor:
        """From 1 (noise) to 0, in the latents' type."""
        return (one.schedule.timestep / 1000).to(one.latents.dtype)

    def to_image(self, latents: torch.Tensor) -> torch.Tensor:
        """Runs the VAE, in FP32 where FP16 would overflow."""
        vae = self.vae
        with kept_dtype(vae):
            if vae.config.force_upcast and vae.dtype == torch.float16:
                vae.to(dtype=torch.float32)
                latents = latents.float()
            return self.decoder(latents / vae.config.scaling_factor)
