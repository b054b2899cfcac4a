"""One image of a diffusers pipeline on its way from noise to pixels."""

from __future__ import annotations

from typing import Generic, TypeVar

import torch

from darkroom_server.backends.base import Encoded
from darkroom_server.backends.diffusers.adapters.low_rank import AdapterSet
from darkroom_server.backends.diffusers.first_block import FirstBlockMemory
from darkroom_server.backends.diffusers.repainting import Repainting
from darkroom_server.backends.diffusers.schedule import Schedule
from darkroom_server.domain.jobs import ImageSpec

#: What a family adds to a trajectory for one image alone.
Extra = TypeVar("Extra")


class DiffusersTrajectory(Generic[Encoded, Extra]):
    """One image: its latents and a schedule of its own.

    `conditioning` is what `encode` returned, shared by the images of a request and never written;
    `extra` is what a family adds for this image alone.
    """

    def __init__(
        self,
        spec: ImageSpec,
        schedule: Schedule,
        latents: torch.Tensor,
        conditioning: Encoded,
        extra: Extra | None = None,
    ) -> None:
        self.spec = spec
        self.schedule = schedule
        self.latents = latents
        self.conditioning = conditioning
        self.extra = extra
        #: What the last step of which a preview was due aimed at.
        self.denoised: torch.Tensor | None = None
        self.is_filtered = False
        #: What it is made with besides the model; set when it takes its first step.
        self.adapters: AdapterSet | None = None
        #: What a request with a feature cache keeps from step to step.
        self.memory: FirstBlockMemory | None = None
        #: What a fill that blends puts back after every step.
        self.repainting: Repainting | None = None

    @property
    def is_preview_due(self) -> bool:
        """Whether a preview may be wanted of the step that is being taken."""
        preview = self.spec.preview
        return preview is not None and not (
            (self.completed_step_count + 1) % preview.interval_step_count
        )

    @property
    def step_count(self) -> int:
        """Steps in all, as the caller counts them."""
        return self.schedule.step_count

    @property
    def completed_step_count(self) -> int:
        """Steps done."""
        return self.schedule.completed_step_count

    @property
    def finished(self) -> bool:
        """Whether it is ready to be decoded."""
        return self.schedule.finished
