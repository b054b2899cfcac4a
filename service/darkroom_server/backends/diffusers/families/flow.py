"""Families by flow matching: what a transformer's latents begin with, and their autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.pipelines.flux.pipeline_flux_img2img import retrieve_latents
from diffusers.utils.torch_utils import randn_tensor

from darkroom_server.backends.base import Encoded
from darkroom_server.backends.diffusers.pictures import picture
from darkroom_server.backends.diffusers.repainting import Repainting
from darkroom_server.backends.diffusers.schedule import Schedule
from darkroom_server.backends.diffusers.step_model import DiffusersStepModel
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory, Extra
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import FillSpec, ImageSpec, Pixels, StrengthRounding


class FlowStepModel(DiffusersStepModel[Encoded, Extra]):
    """A loaded pipeline with a transformer that predicts velocities."""

    strength_rounding: ClassVar[StrengthRounding] = StrengthRounding.UP
    noising: ClassVar[str] = "scale_noise"

    def __init__(
        self, pipeline: Any, *, allowed_schedulers: Sequence[str], prompts: PromptCache
    ) -> None:
        super().__init__(
            pipeline, pipeline.transformer, allowed_schedulers=allowed_schedulers, prompts=prompts
        )
        self._transformer = pipeline.transformer

    def _latent_size(self, spec: ImageSpec) -> tuple[int, int]:
        """Height and width of the autoencoder's latents: whole squares of 2x2 by default."""
        packed_px = self._pipeline.vae_scale_factor * 2
        return 2 * (spec.height_px // packed_px), 2 * (spec.width_px // packed_px)

    def _set_shifted(
        self, scheduler: Any, step_count: int, device: torch.device, mu: float
    ) -> None:
        """Evenly spaced sigmas, or the scheduler's own where it has them, shifted by `mu`."""
        if scheduler.config.get("use_flow_sigmas"):
            scheduler.set_timesteps(step_count, device=device, mu=mu)
            return
        sigmas = np.linspace(1.0, 1 / step_count, step_count)
        scheduler.set_timesteps(sigmas=sigmas, device=device, mu=mu)

    def _shift(self, scheduler: Any, spec: ImageSpec) -> float:
        """How far the scheduler shifts sigmas for a number of image tokens of 2x2 latents."""
        height, width = self._latent_size(spec)
        config = scheduler.config
        shift: float = calculate_shift(
            (height // 2) * (width // 2),
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        return shift

    def _first_latents(
        self, spec: ImageSpec, schedule: Schedule, dtype: torch.dtype
    ) -> torch.Tensor:
        """Noise, or for image to image the noised image: [1, C, h, w]."""
        if spec.source is None:
            return self._noise(spec, schedule, dtype)
        image = self._preprocessed(spec.source.image, spec)
        return self._noised(image.to(self._device, dtype), spec, schedule)

    def _preprocessed(self, image: Pixels, spec: ImageSpec) -> torch.Tensor:
        """[1, 3, height, width], -1 to 1, FP32."""
        preprocessed: torch.Tensor = self._pipeline.image_processor.preprocess(
            picture(image), height=spec.height_px, width=spec.width_px
        )
        return preprocessed.float()

    def _latent_channels(self) -> int:
        channels: int = self.vae.config.latent_channels
        return channels

    def _noise(self, spec: ImageSpec, schedule: Schedule, dtype: torch.dtype) -> torch.Tensor:
        noise: torch.Tensor = randn_tensor(
            (1, self._latent_channels(), *self._latent_size(spec)),
            generator=schedule.generator,
            device=self._device,
            dtype=dtype,
        )
        return noise

    def _noised(self, image: torch.Tensor, spec: ImageSpec, schedule: Schedule) -> torch.Tensor:
        """An image's latents, noised for the first timestep that runs."""
        latents = self._image_latents(image, schedule)
        noise = self._noise(spec, schedule, image.dtype)
        noised: torch.Tensor = schedule.scheduler.scale_noise(
            latents, schedule.timesteps[:1], noise
        )
        return noised

    def _image_latents(self, image: torch.Tensor, schedule: Schedule) -> torch.Tensor:
        vae = self.vae
        latents = retrieve_latents(vae.encode(image), generator=schedule.generator)
        scaled: torch.Tensor = (latents - vae.config.shift_factor) * vae.config.scaling_factor
        return scaled

    def _begun(
        self, spec: ImageSpec, schedule: Schedule, dtype: torch.dtype
    ) -> tuple[torch.Tensor, Repainting | None]:
        """What an image begins with, [1, C, h, w], and of a fill what it keeps."""
        if spec.fill is None:
            return self._first_latents(spec, schedule, dtype), None
        pixels = self._preprocessed(spec.fill.image, spec)
        image = self._image_latents(pixels.to(self._device, dtype), schedule)
        return self._repainted(spec.fill, image, spec, schedule)

    def _repainted(
        self, fill: FillSpec, image: torch.Tensor, spec: ImageSpec, schedule: Schedule
    ) -> tuple[torch.Tensor, Repainting]:
        """What a fill begins with, and what it keeps of its `image`'s latents [1, C, h, w]."""
        noise = self._noise(spec, schedule, image.dtype)
        latents = schedule.scheduler.scale_noise(image, schedule.timesteps[:1], noise)
        # The pipelines encode the masked image, too, and leave it; a scheduler may draw after it.
        self._noise(spec, schedule, image.dtype)
        mask = self._latent_mask(fill, image)
        return latents, Repainting(*map(self._packed, (image, noise, mask)))

    def _latent_mask(self, fill: FillSpec, image: torch.Tensor) -> torch.Tensor:
        """A mask as large as an image's latents, in each of their channels."""
        processor = VaeImageProcessor(
            vae_scale_factor=1, do_normalize=False, do_binarize=True, do_convert_grayscale=True
        )
        mask = torch.nn.functional.interpolate(
            processor.preprocess(picture(fill.mask)), size=image.shape[-2:]
        )
        return mask.to(image.device, image.dtype).repeat(1, image.shape[1], 1, 1)

    def _packed(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents [1, C, h, w] as they are stepped."""
        return latents

    @torch.inference_mode()
    def scatter(
        self, trajectory: DiffusersTrajectory[Encoded, Extra], outputs: torch.Tensor, first_row: int
    ) -> None:
        """The step, after which what a fill keeps is put back."""
        super().scatter(trajectory, outputs, first_row)
        if trajectory.repainting is not None:
            latents = trajectory.repainting.kept(trajectory.latents, trajectory.schedule)
            trajectory.latents = latents

    def to_image(self, latents: torch.Tensor) -> torch.Tensor:
        """Runs the VAE."""
        config = self.vae.config
        return self.decoder((latents / config.scaling_factor) + config.shift_factor)
