"""Text to image by a transformer that guides in one call of twice the rows, negative ones first.

Texts are padded to one length. What differs between the pipelines is said by their families.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch

from darkroom_server.backends.diffusers.families.flow import FlowStepModel
from darkroom_server.backends.diffusers.networks.network import Inputs
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory
from darkroom_server.domain.jobs import ImageSpec


@dataclass(frozen=True, slots=True)
class TextRows:
    """What all images of a request share, by the transformer's arguments: tensors [rows, …]."""

    arguments: dict[str, torch.Tensor]


class GuidedRowsStepModel(FlowStepModel[TextRows, None]):
    """A loaded pipeline whose guidance is a row more."""

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
    def encoded(self, spec: ImageSpec) -> TextRows:
        """The texts' rows; a negative prompt that is not given is an empty one."""
        texts = [self.text(spec.prompt, is_negative=False)]
        if self.rows(spec) == 2:
            texts.insert(0, self.text(spec.negative_prompt or "", is_negative=True))
        return TextRows({name: torch.cat([one[name] for one in texts]) for name in texts[0]})

    @abstractmethod
    def text(self, text: str, *, is_negative: bool) -> dict[str, torch.Tensor]:
        """One text's tensors [1, …], out of the prompt cache if it is there."""

    @abstractmethod
    def noise_dtype(self, encoded: TextRows) -> torch.dtype:
        """The type of an image's latents."""

    @torch.inference_mode()
    def begin(
        self, spec: ImageSpec, encoded: TextRows, image_index: int
    ) -> DiffusersTrajectory[TextRows, None]:
        """Draws the noise."""
        schedule = self.schedule(spec, image_index)
        latents = self._noise(spec, schedule, self.noise_dtype(encoded))
        return DiffusersTrajectory(spec, schedule, latents, encoded)

    @torch.inference_mode()
    def arguments(self, trajectories: Sequence[DiffusersTrajectory[TextRows, None]]) -> Inputs:
        """Transformer inputs; rows of one trajectory stand together, negative before positive."""
        rows = [self.rows(one.spec) for one in trajectories]
        pairs = list(zip(trajectories, rows, strict=True))
        texts = [one.conditioning.arguments for one in trajectories]
        return {
            "hidden_states": torch.cat([self.latent_rows(one, count) for one, count in pairs]),
            "timestep": torch.cat([self.timestep(one).expand(count) for one, count in pairs]),
            **{name: torch.cat([text[name] for text in texts]) for name in texts[0]},
        }

    def latent_rows(self, one: DiffusersTrajectory[TextRows, None], count: int) -> torch.Tensor:
        """What the transformer is given of an image's latents: [count, C, h, w]."""
        return one.latents.expand(count, -1, -1, -1)

    def timestep(self, one: DiffusersTrajectory[TextRows, None]) -> torch.Tensor:
        """One image's timestep as the transformer takes it, without dimensions or [1]."""
        return one.schedule.timestep

    def to_image(self, latents: torch.Tensor) -> torch.Tensor:
        """Runs the VAE, in its own type; latents are scaled only."""
        return self.decoder(latents.to(self.vae.dtype) / self.vae.config.scaling_factor)
