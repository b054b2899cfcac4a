"""Z-Image and Z-Image Turbo, step by step: text to image and image to image.

In the order of diffusers' `ZImagePipeline` and `ZImageImg2ImgPipeline`. Its transformer takes
lists: texts keep their length, padded to 32 tokens, and a row's picture and text are one sequence.
"""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers.pipelines.z_image.pipeline_z_image import (
    get_default_z_image_sigmas,
)

from darkroom_server.backends.diffusers.families.flow import FlowStepModel
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec

#: Tokens of a text that the encoder reads, its template among them.
TOKEN_COUNT = 512
#: Tokens: the transformer pads each text to a multiple of this.
_PADDED_TOKENS = 32
#: Texts whose lengths are remembered.
_KEPT_LENGTH_COUNT = 1024


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What all images of a request share: the texts' embeddings [tokens, width].

    With guidance they are two, the prompt's before the negative one's.
    """

    texts: tuple[torch.Tensor, ...]


class ZImageStepModel(FlowStepModel[Conditioning, None]):
    """A loaded Z-Image pipeline as a `StepModel`."""

    token_counts: ClassVar[Mapping[str, int]] = {"tokenizer": TOKEN_COUNT}

    def __init__(
        self, pipeline: Any, *, allowed_schedulers: Sequence[str], prompts: PromptCache
    ) -> None:
        super().__init__(pipeline, allowed_schedulers=allowed_schedulers, prompts=prompts)
        # Lengths are asked for by admission's thread, too, while the pipeline's own encodes.
        self._measuring = threading.Lock()
        self._measuring_tokenizer = copy.deepcopy(pipeline.tokenizer)
        self._padded_length = functools.lru_cache(_KEPT_LENGTH_COUNT)(self._measured_length)

    def batch_key(self, spec: ImageSpec) -> Hashable:
        """The latents' size, and the padded length of each text."""
        return (*self._latent_size(spec), *(self._padded_length(text) for text in _texts(spec)))

    def _measured_length(self, text: str) -> int:
        """Tokens of one text as the transformer pads them."""
        tokenizer = self._measuring_tokenizer
        with self._measuring:
            templated = tokenizer.apply_chat_template(
                [{"role": "user", "content": text}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=True,
            )
            ids = tokenizer(templated, max_length=TOKEN_COUNT, truncation=True).input_ids
        return -(-len(ids) // _PADDED_TOKENS) * _PADDED_TOKENS

    def rows(self, spec: ImageSpec) -> int:
        """Two with a guidance above 0, which is where this pipeline begins to guide."""
        return len(_texts(spec))

    @torch.inference_mode()
    def encoded(self, spec: ImageSpec) -> Conditioning:
        """The text encoder's last layer but one; a negative prompt not given is an empty one."""
        return Conditioning(tuple(self._text(text) for text in _texts(spec)))

    def _text(self, text: str) -> torch.Tensor:
        """One text: [tokens, width]."""

        def make() -> tuple[torch.Tensor, ...]:
            embeddings, _ = self._pipeline.encode_prompt(
                prompt=text, device=self._device, do_classifier_free_guidance=False
            )
            return (embeddings[0],)

        return self._prompts.lookup(text, make)[0]

    def set_timesteps(self, scheduler: Any, spec: ImageSpec, device: torch.device) -> None:
        """Evenly spaced sigmas, shifted by the number of image tokens where the scheduler does."""
        mu = self._shift(scheduler, spec)
        sigmas = get_default_z_image_sigmas(spec.step_count)
        scheduler.set_timesteps(sigmas=sigmas, device=device, mu=mu)

    @torch.inference_mode()
    def begin(
        self, spec: ImageSpec, encoded: Conditioning, image_index: int
    ) -> DiffusersTrajectory[Conditioning, None]:
        """Draws the noise, in FP32; encodes an image to begin with before, in the texts' type."""
        schedule = self.schedule(spec, image_index)
        is_begun = self.begins_with_image(spec)
        dtype = encoded.texts[0].dtype if is_begun else torch.float32
        latents, repainting = self._begun(spec, schedule, dtype)
        begun = DiffusersTrajectory[Conditioning, None](spec, schedule, latents, encoded)
        begun.repainting = repainting
        return begun

    @torch.inference_mode()
    def arguments(
        self, trajectories: Sequence[DiffusersTrajectory[Conditioning, None]]
    ) -> dict[str, Any]:
        """Transformer inputs; rows of one trajectory stand together, the prompt's first."""
        pictures: list[torch.Tensor] = []
        timesteps = []
        for one in trajectories:
            rows = self.rows(one.spec)
            typed = one.latents.to(self._transformer.dtype).repeat(rows, 1, 1, 1).unsqueeze(2)
            pictures += typed.unbind(dim=0)
            timesteps.append((1000 - one.schedule.timestep.expand(rows)) / 1000)
        return {
            "x": pictures,
            "t": torch.cat(timesteps),
            "cap_feats": [text for one in trajectories for text in one.conditioning.texts],
        }

    @torch.inference_mode()
    def predict(self, arguments: dict[str, Any]) -> torch.Tensor:
        """One transformer evaluation: velocities [rows, C, h, w], FP32, from image to noise."""
        # Copied, since the transformer writes to the lists.
        inputs = {**arguments, "x": [*arguments["x"]], "cap_feats": [*arguments["cap_feats"]]}
        predicted = self.network(inputs)
        return torch.stack([row.float() for row in predicted]).squeeze(2)

    def guided(
        self, one: DiffusersTrajectory[Conditioning, None], predicted: torch.Tensor
    ) -> torch.Tensor:
        """The negated velocity [1, C, h, w]; with guidance, of two rows, away from the second."""
        if len(predicted) == 1:
            return -predicted
        positive, negative = predicted.chunk(2)
        return -(positive + one.spec.guidance_scale * (positive - negative))

    def to_image(self, latents: torch.Tensor) -> torch.Tensor:
        """Runs the VAE, in its own type."""
        return super().to_image(latents.to(self.vae.dtype))


def _texts(spec: ImageSpec) -> tuple[str, ...]:
    """The texts of a request's rows: the prompt, and with guidance the negative prompt."""
    return (spec.prompt, spec.negative_prompt or "") if spec.guidance_scale > 0 else (spec.prompt,)
