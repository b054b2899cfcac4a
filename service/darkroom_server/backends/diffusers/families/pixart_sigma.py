"""PixArt-Sigma, step by step: text to image. In the order of diffusers' `PixArtSigmaPipeline`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from darkroom_server.backends.diffusers.families.guided_rows import (
    GuidedRowsStepModel,
    TextRows,
)
from darkroom_server.backends.diffusers.schedule import Schedule
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec

#: Tokens that every text is padded to.
TOKEN_COUNT = 300


class PixArtSigmaStepModel(GuidedRowsStepModel):
    """A loaded PixArt-Sigma pipeline as a `StepModel`: a transformer that predicts noise."""

    constants: ClassVar[Mapping[str, Any]] = {
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None}
    }
    token_counts: ClassVar[Mapping[str, int]] = {"tokenizer": TOKEN_COUNT}

    def __init__(
        self, pipeline: Any, *, allowed_schedulers: Sequence[str], prompts: PromptCache
    ) -> None:
        super().__init__(pipeline, allowed_schedulers=allowed_schedulers, prompts=prompts)
        taken = inspect.signature(type(pipeline).__call__).parameters
        self._cleans: bool = taken["clean_caption"].default

    def text(self, text: str, *, is_negative: bool) -> dict[str, torch.Tensor]:
        """T5's states [1, tokens, width] and which are texts [1, tokens]."""
        del is_negative

        def make() -> tuple[torch.Tensor, ...]:
            states, mask, *_ = self._pipeline.encode_prompt(
                text,
                do_classifier_free_guidance=False,
                device=self._device,
                clean_caption=self._cleans,
                max_sequence_length=TOKEN_COUNT,
            )
            return states, mask

        states, mask = self._prompts.lookup(text, make)
        return {"encoder_hidden_states": states, "encoder_attention_mask": mask}

    def noise_dtype(self, encoded: TextRows) -> torch.dtype:
        """That of the texts."""
        return encoded.arguments["encoder_hidden_states"].dtype

    def _noise(self, spec: ImageSpec, schedule: Schedule, dtype: torch.dtype) -> torch.Tensor:
        noise = super()._noise(spec, schedule, dtype)
        scaled: torch.Tensor = noise * schedule.scheduler.init_noise_sigma
        return scaled

    def latent_rows(self, one: DiffusersTrajectory[TextRows, None], count: int) -> torch.Tensor:
        """As the scheduler scales them."""
        rows = super().latent_rows(one, count)
        schedule = one.schedule
        scaled: torch.Tensor = schedule.scheduler.scale_model_input(rows, schedule.timestep)
        return scaled

    def guided(
        self, one: DiffusersTrajectory[TextRows, None], predicted: torch.Tensor
    ) -> torch.Tensor:
        """Without the variance that the transformer may give besides."""
        guided = super().guided(one, predicted)
        if guided.shape[1] // 2 == one.latents.shape[1]:
            return guided.chunk(2, dim=1)[0]
        return guided
