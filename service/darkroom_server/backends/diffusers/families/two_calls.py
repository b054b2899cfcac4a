"""Families whose pipelines guide by a second call of the transformer, with another text.

Both calls are made here too, as the pipeline makes them: an image is one row of each of the two
evaluations of a step, so that texts need not be of one length and bits are the pipeline's.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from darkroom_server.backends.diffusers.families.flow import FlowStepModel
from darkroom_server.backends.diffusers.networks.network import Inputs
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory, Extra
from darkroom_server.domain.jobs import ImageSpec

#: Each tensor that the transformer takes of a text, by its argument: [1, …].
Text = dict[str, torch.Tensor]
#: Where `arguments` keep what the second call is given instead of what the first one is.
_OTHER = "other call"


@dataclass(frozen=True, slots=True)
class TwoTexts:
    """What all images of a request share: the prompt, and with guidance what it leads away from."""

    prompt: Text
    other: Text | None


class TwoCallStepModel(FlowStepModel[TwoTexts, Extra]):
    """A loaded pipeline that calls its transformer once for each text."""

    def is_guided(self, spec: ImageSpec) -> bool:
        """Whether there is a second call."""
        return spec.guidance_scale > 1

    def batch_key(self, spec: ImageSpec) -> Hashable:
        """The latents' size and whether it is guided; texts are padded to one length."""
        return (*self._latent_size(spec), self.is_guided(spec))

    def rows(self, spec: ImageSpec) -> int:
        """One, in each evaluation."""
        del spec
        return 1

    @torch.inference_mode()
    def encoded(self, spec: ImageSpec) -> TwoTexts:
        """The prompt, and with guidance the negative prompt: an empty one where none is given."""
        other = None
        if self.is_guided(spec):
            other = self.text(spec.negative_prompt or "", is_negative=True)
        return TwoTexts(self.text(spec.prompt, is_negative=False), other)

    @abstractmethod
    def text(self, text: str, *, is_negative: bool) -> Text:
        """One text, out of the prompt cache if it is there."""

    @abstractmethod
    def picture_arguments(
        self, trajectories: Sequence[DiffusersTrajectory[TwoTexts, Extra]]
    ) -> Inputs:
        """What both calls are given: latents first, timesteps, and what depends on the key."""

    @torch.inference_mode()
    def arguments(self, trajectories: Sequence[DiffusersTrajectory[TwoTexts, Extra]]) -> Inputs:
        """The first call's arguments, and what the second one has instead of them."""
        given = [one.conditioning for one in trajectories]
        others = [one.other for one in given if one.other is not None]
        return {
            **self.picture_arguments(trajectories),
            **_rows_of([one.prompt for one in given]),
            _OTHER: _rows_of(others) if others else None,
        }

    @torch.inference_mode()
    def predict(self, arguments: dict[str, Any]) -> torch.Tensor:
        """One evaluation, or two of a guided step: [rows, 1 or 2, …]."""
        inputs = dict(arguments)
        other = inputs.pop(_OTHER)
        predicted = [self.network(inputs)]
        if other is not None:
            predicted.append(self.network(inputs | other))
        return torch.stack(predicted, dim=1)

    def guided(
        self, one: DiffusersTrajectory[TwoTexts, Extra], predicted: torch.Tensor
    ) -> torch.Tensor:
        """Classifier-free guidance of two evaluations [1, 2, …], away from the second."""
        calls = predicted.unbind(dim=1)
        if len(calls) == 1:
            return calls[0]
        return calls[1] + one.spec.guidance_scale * (calls[0] - calls[1])


def renormalized(guided: torch.Tensor, prompted: torch.Tensor) -> torch.Tensor:
    """A guided prediction [1, tokens, C], rescaled along C to the norm of the prompt's own."""
    wanted = torch.norm(prompted, dim=-1, keepdim=True)
    renormalized: torch.Tensor = guided * (wanted / torch.norm(guided, dim=-1, keepdim=True))
    return renormalized


def _rows_of(texts: Sequence[Text]) -> Text:
    return {name: torch.cat([text[name] for text in texts]) for name in texts[0]}
