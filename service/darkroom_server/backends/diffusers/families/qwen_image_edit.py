"""Qwen-Image-Edit, of one reference image or a fill, and -Plus, of several, step by step.

Operations in the order of diffusers' `QwenImageEditPipeline`, `QwenImageEditInpaintPipeline` and
`QwenImageEditPlusPipeline`: the language model sees the images with each text, and the transformer
their latents beside its own. Fills are made in the size that is asked for; their pipeline makes
them of a megapixel.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.pipelines.flux.pipeline_flux_img2img import retrieve_latents
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit as edit
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as edit_plus

from darkroom_server.backends.diffusers.families.qwen_image import TOKEN_COUNT, QwenImageStepModel
from darkroom_server.backends.diffusers.families.two_calls import Text, TwoTexts
from darkroom_server.backends.diffusers.networks.network import Inputs
from darkroom_server.backends.diffusers.pictures import picture
from darkroom_server.backends.diffusers.token_limits import TokenLimits
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory
from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.jobs import ImageSpec, Pixels

#: Area in pixels that an image is encoded in.
_ENCODED_AREA_PX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class EditedTexts(TwoTexts):
    """With the reference images' packed latents [1, tokens, channels] and (1, height, width)s.

    Of a fill each image has latents of its own, since they are drawn.
    """

    references: torch.Tensor | None
    grids: tuple[tuple[int, int, int], ...]


class ReferringStepModel(QwenImageStepModel):
    """What both pipelines do."""

    @abstractmethod
    def told_size(self, image: Pixels) -> tuple[int, int]:
        """Width and height in which the language model sees an image."""

    @abstractmethod
    def encoded_size(self, image: Pixels) -> tuple[int, int]:
        """Width and height in which an image's latents are made."""

    @abstractmethod
    def told_text(self, text: str, image_count: int) -> str:
        """A text in the pipeline's template, with a place for each image."""

    @abstractmethod
    def pixels(self, image: Pixels) -> torch.Tensor:
        """What the VAE is given of an image: [1, 3, height, width], -1 to 1."""

    def batch_key(self, spec: ImageSpec) -> Hashable:
        """The latents' size, each reference image's, and each text's length with its images."""
        images = _shown(spec)
        texts = [spec.prompt, spec.negative_prompt or ""][: 1 + self.is_guided(spec)]
        seen = sum(map(self._told_token_count, images)) - len(images)
        # These pipelines take a longest length, and cut nothing.
        lengths = [self._length(self.told_text(text, len(images))) + seen for text in texts]
        return (*self._latent_size(spec), *self._grids(spec), *lengths)

    def token_limits(self) -> TokenLimits:
        """Nothing is cut."""
        return []

    def _measured_length(self, tokenizer: Any, text: str) -> int:
        dropped: int = self._pipeline.prompt_template_encode_start_idx
        return len(tokenizer(text).input_ids) - dropped

    def _told_token_count(self, image: Pixels) -> int:
        """Tokens that the language model makes of an image."""
        processor = self._pipeline.processor.image_processor
        width, height = self.told_size(image)
        patches: int = processor.get_number_of_image_patches(height, width, {})
        return patches // int(processor.merge_size) ** 2

    def _grids(self, spec: ImageSpec) -> tuple[tuple[int, int, int], ...]:
        """Tokens of each image that stands beside the latents."""
        packed_px = self._pipeline.vae_scale_factor * 2
        sizes = [self.encoded_size(one) for one in spec.reference_images]
        if spec.fill is not None:
            sizes = [(spec.width_px, spec.height_px)]
        return tuple((1, height // packed_px, width // packed_px) for width, height in sizes)

    @torch.inference_mode()
    def encoded(self, spec: ImageSpec) -> TwoTexts:
        """Texts and references, which a request's images share: nothing is drawn for these.

        Raises InvalidParameter for a prompt with a token that stands for an image.
        """
        images = _shown(spec)
        prompt = self._told(spec.prompt, images)
        other = None
        if self.is_guided(spec):
            other = self._told(spec.negative_prompt or "", images)
        references = None
        if spec.fill is None:
            dtype = prompt["encoder_hidden_states"].dtype
            references = torch.cat([self._reference(one, dtype) for one in images], dim=1)
        return EditedTexts(prompt, other, references, self._grids(spec))

    def _told(self, text: str, images: Sequence[Pixels]) -> Text:
        """The language model's last states of a text and its images: [1, tokens, width].

        Raises InvalidParameter for a text with the mark of an image.
        """
        if (mark := str(self._pipeline.processor.image_token)) in text:
            raise InvalidParameter("prompt", f"has {mark}, which stands for an image")

        def make() -> tuple[torch.Tensor, ...]:
            states, _ = self._pipeline.encode_prompt(
                image=[self._told_picture(one) for one in images],
                prompt=text,
                device=self._device,
                max_sequence_length=TOKEN_COUNT,
            )
            return (states,)

        key = (text, *map(_digest, images))
        return {"encoder_hidden_states": self._prompts.lookup(key, make)[0]}

    def _told_picture(self, image: Pixels) -> Any:
        width, height = self.told_size(image)
        return self._pipeline.image_processor.resize(picture(image), height, width)

    def _reference(self, image: Pixels, dtype: torch.dtype) -> torch.Tensor:
        """An image's packed latents."""
        pixels = self.pixels(image).unsqueeze(2).to(self._device, dtype)
        latents = retrieve_latents(self.vae.encode(pixels), sample_mode="argmax")
        config, shape = self.vae.config, (1, self.vae.config.z_dim, 1, 1, 1)
        mean = torch.tensor(config.latents_mean).view(shape).to(latents.device, latents.dtype)
        deviation = torch.tensor(config.latents_std).view(shape).to(latents.device, latents.dtype)
        scaled = ((latents - mean) / deviation)[:, :, 0]
        return self._packed(scaled)

    def picture_arguments(
        self, trajectories: Sequence[DiffusersTrajectory[TwoTexts, None]]
    ) -> Inputs:
        """With the reference images' latents after each image's own."""
        arguments = super().picture_arguments(trajectories)
        rows, shapes = [], []
        for one, [own] in zip(trajectories, arguments["img_shapes"], strict=True):
            given = one.conditioning
            assert isinstance(given, EditedTexts)
            beside = given.references if one.repainting is None else one.repainting.image
            assert beside is not None
            rows.append(torch.cat([one.latents, beside], dim=1))
            shapes.append([own, *given.grids])
        return arguments | {"hidden_states": torch.cat(rows), "img_shapes": shapes}

    def guided(
        self, one: DiffusersTrajectory[TwoTexts, None], predicted: torch.Tensor
    ) -> torch.Tensor:
        """Of the tokens that are the image's own."""
        return super().guided(one, predicted[:, :, : one.latents.shape[1]])


class QwenImageEditStepModel(ReferringStepModel):
    """A loaded Qwen-Image-Edit pipeline as a `StepModel`: of one image."""

    def told_size(self, image: Pixels) -> tuple[int, int]:
        """As it is encoded."""
        ratio = image.width_px / image.height_px
        width, height, _ = edit.calculate_dimensions(_ENCODED_AREA_PX, ratio)
        return int(width), int(height)

    def encoded_size(self, image: Pixels) -> tuple[int, int]:
        """A megapixel of its shape."""
        return self.told_size(image)

    def told_text(self, text: str, image_count: int) -> str:
        """The template has the image's place."""
        del image_count
        template: str = self._pipeline.prompt_template_encode
        return template.format(text)

    def pixels(self, image: Pixels) -> torch.Tensor:
        """Scaled before it is encoded."""
        width, height = self.encoded_size(image)
        pixels: torch.Tensor = self._pipeline.image_processor.preprocess(
            self._told_picture(image), height, width
        )
        return pixels


class QwenImageEditPlusStepModel(ReferringStepModel):
    """A loaded Qwen-Image-Edit-Plus pipeline as a `StepModel`: of several images."""

    def told_size(self, image: Pixels) -> tuple[int, int]:
        """Smaller than it is encoded."""
        ratio = image.width_px / image.height_px
        width, height = edit_plus.calculate_dimensions(edit_plus.CONDITION_IMAGE_SIZE, ratio)
        return int(width), int(height)

    def encoded_size(self, image: Pixels) -> tuple[int, int]:
        """A megapixel of its shape."""
        ratio = image.width_px / image.height_px
        width, height = edit_plus.calculate_dimensions(edit_plus.VAE_IMAGE_SIZE, ratio)
        return int(width), int(height)

    def told_text(self, text: str, image_count: int) -> str:
        """Numbered pictures before the text."""
        places = "".join(
            f"Picture {number}: <|vision_start|><|image_pad|><|vision_end|>"
            for number in range(1, image_count + 1)
        )
        template: str = self._pipeline.prompt_template_encode
        return template.format(places + text)

    def pixels(self, image: Pixels) -> torch.Tensor:
        """As it came, scaled by the processor."""
        width, height = self.encoded_size(image)
        pixels: torch.Tensor = self._pipeline.image_processor.preprocess(
            picture(image), height, width
        )
        return pixels


def _shown(spec: ImageSpec) -> tuple[Pixels, ...]:
    """What the language model sees."""
    return spec.reference_images if spec.fill is None else (spec.fill.image,)


def _digest(image: Pixels) -> tuple[int, int, bytes]:
    return image.width_px, image.height_px, hashlib.sha256(image.data).digest()
