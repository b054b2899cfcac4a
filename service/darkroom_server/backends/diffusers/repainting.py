"""What a fill keeps of its image where nothing else of the model knows the mask.

The pipelines blend: after each step the latents of what the mask leaves are put back, with as much
noise as the next step expects.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from darkroom_server.backends.diffusers.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Repainting:
    """The image's latents, its noise, and the mask (1 is repainted), all as latents are stepped."""

    image: torch.Tensor
    noise: torch.Tensor
    mask: torch.Tensor

    def kept(self, latents: torch.Tensor, schedule: Schedule) -> torch.Tensor:
        """Latents after a step, with the image, noised for the next, where the mask is black."""
        image = self.image
        if not schedule.finished:
            timestep = torch.tensor([schedule.timestep])
            image = schedule.scheduler.scale_noise(image, timestep, self.noise)
        blended: torch.Tensor = (1 - self.mask) * image + self.mask * latents
        return blended
