"""FLUX.2 klein, step by step: text to image, edits by reference images, and fills.

In the order of diffusers' `Flux2KleinPipeline`. Latents are packed: [1, tokens, channels * 4]. The
stock pipeline guides by a second call of its transformer, and so does this: an image is one row of
each of the two evaluations of a step.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from diffusers.utils.torch_utils import randn_tensor

from darkroom_server.backends.diffusers.families.flow import FlowStepModel
from darkroom_server.backends.diffusers.families.flux2_klein_fill import (
    Filled,
    KleinFill,
    References,
)
from darkroom_server.backends.diffusers.pictures import picture
from darkroom_server.backends.diffusers.repainting import Repainting
from darkroom_server.backends.diffusers.schedule import Schedule
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory
from darkroom_server.domain.image_size import Size
from darkroom_server.domain.jobs import ImageSpec, Pixels
from darkroom_server.domain.references import REFERENCE_RULES

#: Size of its reference images.
_RULE = REFERENCE_RULES["Flux2KleinPipeline"]


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What all images of a request share: `context` and, with guidance, that of no text.

    Both [1, tokens, width]; `text_ids` [1, tokens, 4].
    """

    context: torch.Tensor
    text_ids: torch.Tensor
    without: torch.Tensor | None
    references: References | None
    filled: Filled | None = None


class Flux2KleinStepModel(FlowStepModel[Conditioning, None]):
    """A loaded FLUX.2 klein pipeline as a `StepModel`; distilled ones are not guided."""

    constants: ClassVar[Mapping[str, Any]] = {"joint_attention_kwargs": None, "guidance": None}
    token_counts: ClassVar[Mapping[str, int]] = {"tokenizer": 512}

    @functools.cached_property
    def _fill(self) -> KleinFill:
        return KleinFill(self._pipeline, self._device)

    def batch_key(self, spec: ImageSpec) -> Hashable:
        """The latents' size, whether it is guided, and the sizes of what stands beside them.

        Ids say where a token lies in which image, and are shared by the batch.
        """
        multiple_px = self._pipeline.vae_scale_factor * 2
        shown = [_shown_size(one) for one in spec.reference_images]
        if spec.fill is not None:
            shown.insert(0, Size(spec.width_px, spec.height_px))
        sizes = [(one.height_px // multiple_px, one.width_px // multiple_px) for one in shown]
        return (*self._latent_size(spec), self._is_guided(spec), *sizes)

    def _is_guided(self, spec: ImageSpec) -> bool:
        return spec.guidance_scale > 1 and not self._pipeline.config.is_distilled

    def rows(self, spec: ImageSpec) -> int:
        """One, in each evaluation."""
        del spec
        return 1

    @torch.inference_mode()
    def encoded(self, spec: ImageSpec) -> Conditioning:
        """The prompt's states of three layers, those of an empty text to guide away from, images.

        Nothing is drawn for an image to fill nor for references, so that all images of a request
        share these.
        """
        context, text_ids = self._text(spec.prompt)
        without = self._text("")[0] if self._is_guided(spec) else None
        shown = [self._preprocessed_reference(one) for one in spec.reference_images]
        if spec.fill is not None:
            filled = self._fill.filled(spec.fill, spec, context.dtype)
            beside = self._fill.beside(filled, shown)
            return Conditioning(context, text_ids, without, beside, filled)
        references = self._references(shown) if shown else None
        return Conditioning(context, text_ids, without, references)

    def _text(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        def make() -> tuple[torch.Tensor, torch.Tensor]:
            context, ids = self._pipeline.encode_prompt(prompt=text, device=self._device)
            return context, ids

        return self._prompts.lookup(text, make)

    def set_timesteps(self, scheduler: Any, spec: ImageSpec, device: torch.device) -> None:
        """Evenly spaced sigmas, shifted by the numbers of image tokens and of steps."""
        height, width = self._latent_size(spec)
        mu = compute_empirical_mu((height // 2) * (width // 2), spec.step_count)
        self._set_shifted(scheduler, spec.step_count, device, mu)

    @torch.inference_mode()
    def begin(
        self, spec: ImageSpec, encoded: Conditioning, image_index: int
    ) -> DiffusersTrajectory[Conditioning, None]:
        """Draws the noise."""
        schedule, filled = self.schedule(spec, image_index), encoded.filled
        latents = noise = self._noise(spec, schedule, encoded.context.dtype)
        if filled is not None:
            latents = schedule.scheduler.scale_noise(filled.image, schedule.timesteps[:1], noise)
        packed = self._packed(latents)
        begun = DiffusersTrajectory[Conditioning, None](spec, schedule, packed, encoded)
        if filled is not None:
            image = self._packed(filled.image)
            begun.repainting = Repainting(image, self._packed(noise), filled.mask)
        return begun

    def _packed(self, latents: torch.Tensor) -> torch.Tensor:
        packed: torch.Tensor = self._pipeline._pack_latents(latents)
        return packed

    def _noise(self, spec: ImageSpec, schedule: Schedule, dtype: torch.dtype) -> torch.Tensor:
        height, width = self._latent_size(spec)
        noise: torch.Tensor = randn_tensor(
            (1, self._transformer.config.in_channels, height // 2, width // 2),
            generator=schedule.generator,
            device=self._device,
            dtype=dtype,
        )
        return noise

    def _references(self, shown: list[torch.Tensor]) -> References:
        latents, ids = self._pipeline.prepare_image_latents(
            images=shown,
            batch_size=1,
            generator=None,
            device=self._device,
            dtype=self.vae.dtype,
        )
        return References(latents, ids)

    def _preprocessed_reference(self, image: Pixels) -> torch.Tensor:
        """[1, 3, height, width], -1 to 1: scaled down to a megapixel, then cut to whole tokens."""
        processor, multiple_px = self._pipeline.image_processor, self._pipeline.vae_scale_factor * 2
        given, shown = picture(image), _shown_size(image)
        if given.size != (shown.width_px, shown.height_px):
            given = processor._resize_to_target_area(given, _RULE.area_px)
        pixels: torch.Tensor = processor.preprocess(
            given,
            height=given.height // multiple_px * multiple_px,
            width=given.width // multiple_px * multiple_px,
            resize_mode="crop",
        )
        return pixels

    @torch.inference_mode()
    def arguments(
        self, trajectories: Sequence[DiffusersTrajectory[Conditioning, None]]
    ) -> dict[str, Any]:
        """Transformer inputs; ids are shared by the batch, whose sizes are all equal."""
        given = [one.conditioning for one in trajectories]
        dtype = trajectories[0].latents.dtype
        timesteps = torch.cat([one.schedule.timestep.expand(1).to(dtype) for one in trajectories])
        ids = self._latent_ids(trajectories[0].spec)
        references = trajectories[0].conditioning.references
        if references is not None:
            ids = torch.cat([ids, references.ids], dim=1)
        without = [one.without for one in given if one.without is not None]
        return {
            "hidden_states": torch.cat([self._model_input(one) for one in trajectories]),
            "timestep": timesteps / 1000,
            "encoder_hidden_states": torch.cat([one.context for one in given]),
            "txt_ids": given[0].text_ids[0],
            "img_ids": ids[0],
            "without": torch.cat(without) if without else None,
        }

    def _model_input(self, one: DiffusersTrajectory[Conditioning, None]) -> torch.Tensor:
        """Latents, and those of the reference images: [1, tokens, channels]."""
        given, references = one.latents, one.conditioning.references
        if references is not None:
            given = torch.cat([given, references.latents], 1)
        return given.to(self._transformer.dtype)

    def _latent_ids(self, spec: ImageSpec) -> torch.Tensor:
        height, width = self._latent_size(spec)
        empty = torch.empty((1, 1, height // 2, width // 2), device="meta")
        ids: torch.Tensor = self._pipeline._prepare_latent_ids(empty).to(self._device)
        return ids

    @torch.inference_mode()
    def predict(self, arguments: dict[str, Any]) -> torch.Tensor:
        """One evaluation, or two of a guided step: [rows, 1 or 2, tokens, channels]."""
        inputs = dict(arguments)
        without = inputs.pop("without")
        predicted = [self.network(inputs)]
        if without is not None:
            predicted.append(self.network(inputs | {"encoder_hidden_states": without}))
        return torch.stack(predicted, dim=1)

    def guided(
        self, one: DiffusersTrajectory[Conditioning, None], predicted: torch.Tensor
    ) -> torch.Tensor:
        """Of the tokens that are the image's own; of two evaluations, away from the second."""
        own = predicted[:, :, : one.latents.shape[1]].unbind(dim=1)
        if len(own) == 1:
            return own[0]
        return own[1] + one.spec.guidance_scale * (own[0] - own[1])

    def unpacked(self, latents: torch.Tensor, spec: ImageSpec) -> torch.Tensor:
        """Packed latents as the VAE makes them, with its own mean and deviation: [1, C, h, w]."""
        pipeline, norm = self._pipeline, self.vae.bn
        shape = (1, -1, 1, 1)
        placed = self._placed(latents, spec)
        mean = norm.running_mean.view(shape).to(placed.device, placed.dtype)
        variance = norm.running_var.view(shape) + self.vae.config.batch_norm_eps
        deviation = torch.sqrt(variance).to(placed.device, placed.dtype)
        unpacked: torch.Tensor = pipeline._unpatchify_latents(placed * deviation + mean)
        return unpacked

    def _placed(self, latents: torch.Tensor, spec: ImageSpec) -> torch.Tensor:
        """Where their ids say: [1, channels, height, width]."""
        height, width = self._latent_size(spec)
        ids = self._latent_ids(spec)
        placed: torch.Tensor = self._pipeline._unpack_latents_with_ids(
            latents, ids, height // 2, width // 2
        )
        return placed

    def to_image(self, latents: torch.Tensor) -> torch.Tensor:
        """Runs the VAE."""
        return self.decoder(latents)


def _shown_size(image: Pixels) -> Size:
    return _RULE.shown(Size(image.width_px, image.height_px))
