"""Sana, step by step: text to image. In the order of diffusers' `SanaPipeline`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from darkroom_server.backends.diffusers.families.guided_rows import (
    GuidedRowsStepModel,
    TextRows,
)
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory
from darkroom_server.backends.prompt_cache import PromptCache

#: Tokens of a text that the transformer is given; the instruction before it comes on top.
TOKEN_COUNT = 300


class SanaStepModel(GuidedRowsStepModel):
    """A loaded Sana pipeline as a `StepModel`; latents are of FP32."""

    constants: ClassVar[Mapping[str, Any]] = {"attention_kwargs": None}
    token_counts: ClassVar[Mapping[str, int]] = {"tokenizer": TOKEN_COUNT}

    def __init__(
        self, pipeline: Any, *, allowed_schedulers: Sequence[str], prompts: PromptCache
    ) -> None:
        super().__init__(pipeline, allowed_schedulers=allowed_schedulers, prompts=prompts)
        taken = inspect.signature(type(pipeline).__call__).parameters
        #: What the pipeline puts before every prompt, unless an argument forbids it.
        self._instruction: list[str] = taken["complex_human_instruction"].default

    def text(self, text: str, *, is_negative: bool) -> dict[str, torch.Tensor]:
        """Gemma's states [1, tokens, width] and which are texts [1, tokens].

        The pipeline says its instruction before a prompt only, not before a negative one.
        """

        def make() -> tuple[torch.Tensor, ...]:
            states, mask, *_ = self._pipeline.encode_prompt(
                text,
                do_classifier_free_guidance=False,
                device=self._device,
                max_sequence_length=TOKEN_COUNT,
                complex_human_instruction=None if is_negative else self._instruction,
            )
            return states, mask

        states, mask = self._prompts.lookup(("negative" if is_negative else "prompt", text), make)
        dtype = self._transformer.dtype
        return {"encoder_hidden_states": states.to(dtype), "encoder_attention_mask": mask}

    def noise_dtype(self, encoded: TextRows) -> torch.dtype:
        """FP32 whatever the weights are."""
        del encoded
        return torch.float32

    def latent_rows(self, one: DiffusersTrajectory[TextRows, None], count: int) -> torch.Tensor:
        """In the transformer's type."""
        return super().latent_rows(one, count).to(self._transformer.dtype)

    def timestep(self, one: DiffusersTrajectory[TextRows, None]) -> torch.Tensor:
        """Scaled as the transformer was trained."""
        scaled: torch.Tensor = one.schedule.timestep * self._transformer.config.timestep_scale
        return scaled

    def predict(self, arguments: dict[str, Any]) -> torch.Tensor:
        """In FP32 from there on."""
        return super().predict(arguments).float()
