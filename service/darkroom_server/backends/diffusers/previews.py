"""Rough pictures of latents: a linear map from their channels to RGB, fitted to the VAE at load.

A pixel of the preview is one latent, so that it costs a matrix product instead of a decoder.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from darkroom_server.backends.base import ImageArray
from darkroom_server.backends.diffusers.schedule import Schedule

#: Edge in pixels and colour patches of the picture that the map is fitted to.
_FIT_EDGE_PX, _PATCHES = 256, 16


class LatentColours:
    """The map, least squares over one picture of smooth random colours. Draws no global noise."""

    def __init__(self, vae: Any) -> None:
        picture = _smooth_colours().to(vae.device, vae.dtype)
        encoded = vae.encode(picture.unsqueeze(2) if makes_videos(vae) else picture)
        latents = _latents_of(encoded)
        if makes_videos(vae):
            latents = latents[:, :, 0]
        statistics = latent_statistics(vae, latents)
        mean, std = statistics or (vae.config.get("shift_factor") or 0.0, 1.0)
        latents = (latents - mean) * vae.config.get("scaling_factor", 1.0) / std
        colours = torch.nn.functional.interpolate(
            picture.float(), size=latents.shape[-2:], mode="area"
        )
        solved = torch.linalg.lstsq(_with_ones(latents), _columns(colours)).solution
        #: [channels + 1, 3]; the last row is the offset.
        self._matrix = solved.float()

    @torch.inference_mode()
    def paint(self, latents: torch.Tensor) -> list[ImageArray]:
        """The pictures of latents [n, channels, h, w]: uint8 [h, w, 3] each.

        All at once, since each one brought back from a GPU waits for it. From any thread.
        """
        colours = latents.float().movedim(1, -1) @ self._matrix[:-1] + self._matrix[-1]
        levels = ((colours.clamp(-1, 1) + 1) * 127.5).round()
        return list(np.asarray(levels.cpu(), dtype=np.uint8))


def _latents_of(encoded: Any) -> torch.Tensor:
    """What an encoder gives, under whichever name it does."""
    for name in ("latents", "latent"):
        if hasattr(encoded, name):
            latents: torch.Tensor = getattr(encoded, name)
            return latents
    mode: torch.Tensor = encoded.latent_dist.mode()
    return mode


def makes_videos(vae: Any) -> bool:
    """Whether what it takes and gives has a dimension of frames after the channels."""
    return "temperal_downsample" in vae.config


def latent_statistics(vae: Any, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Mean and deviation of each channel, [1, C, 1, 1], if the VAE's pipeline scales by them."""
    mean, std = vae.config.get("latents_mean"), vae.config.get("latents_std")
    if mean is None or std is None:
        return None
    shape = (1, -1, 1, 1)
    return (
        torch.tensor(mean).view(shape).to(latents.device, latents.dtype),
        torch.tensor(std).view(shape).to(latents.device, latents.dtype),
    )


def denoised(schedule: Schedule, stepped: Any, prediction: torch.Tensor, latents: Any) -> Any:
    """The clean latents that a step predicts from `latents`, of their shape.

    The scheduler's, or calculated: from the variance of the timestep (DDIM, arXiv:2010.02502,
    equation 12), or for flow matching, which predicts noise minus clean, from its sigma.
    """
    scheduler = schedule.scheduler
    clean = getattr(stepped, "pred_original_sample", None)
    if clean is not None:
        return clean
    if getattr(scheduler, "model_outputs", None):
        return scheduler.model_outputs[-1]
    predicted = scheduler.config.get("prediction_type")
    if predicted == "sample":
        return prediction
    if not hasattr(scheduler, "alphas_cumprod"):
        if not hasattr(scheduler, "sigmas"):
            # IPNDM's own weights, of signal and noise together: as far as it has come.
            return stepped.prev_sample
        return latents - scheduler.sigmas[schedule.index] * prediction
    signal = scheduler.alphas_cumprod[int(schedule.timestep)]
    noise = 1 - signal
    if predicted == "v_prediction":
        return signal.sqrt() * latents - noise.sqrt() * prediction
    return (latents - noise.sqrt() * prediction) / signal.sqrt()


def _smooth_colours() -> torch.Tensor:
    """[1, 3, 256, 256], -1 to 1."""
    patches = torch.rand(
        (1, 3, _PATCHES, _PATCHES), generator=torch.Generator("cpu").manual_seed(0)
    )
    picture = torch.nn.functional.interpolate(
        patches, size=(_FIT_EDGE_PX, _FIT_EDGE_PX), mode="bilinear"
    )
    return picture * 2 - 1


def _columns(values: torch.Tensor) -> torch.Tensor:
    """[1, n, h, w] as [h * w, n], in FP32."""
    return values[0].flatten(1).T.float()


def _with_ones(latents: torch.Tensor) -> torch.Tensor:
    columns = _columns(latents)
    return torch.cat([columns, torch.ones_like(columns[:, :1])], dim=1)
