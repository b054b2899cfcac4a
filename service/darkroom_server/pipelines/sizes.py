"""The sizes that a pipeline's denoiser and VAE are made for. Pure."""

from __future__ import annotations

import math

from darkroom_server.domain.models import Limits
from darkroom_server.parameters import bounds
from darkroom_server.pipelines.families import Family

#: Transformers whose number of positions is that of all tokens, not of those along an edge.
_COUNTS_ALL_POSITIONS = ("AuraFlowTransformer2DModel",)


def edge_px_of(denoiser: dict[str, object], vae_factor: int, family: Family) -> int:
    """The size the denoiser was trained at, where its config says so and it is a sensible one."""
    if family.bounds_area:
        match denoiser.get("max_resolution"):
            case [edge, _]:
                return _latents_px(edge, vae_factor, family.edge_px)
    if family.denoiser != "unet":
        return family.edge_px
    return trained_edge_px(denoiser, vae_factor, family.edge_px)


def trained_edge_px(denoiser: dict[str, object], vae_factor: int, otherwise_px: int) -> int:
    """The denoiser's `sample_size` in pixels, where that is a sensible one."""
    return _latents_px(denoiser.get("sample_size"), vae_factor, otherwise_px)


def _latents_px(sample_size: object, vae_factor: int, otherwise_px: int) -> int:
    if type(sample_size) is not int:
        return otherwise_px
    edge_px = sample_size * vae_factor
    return edge_px if bounds.MIN_SIZE_PX <= edge_px <= bounds.MAX_SIZE_PX else otherwise_px


def most_px_of(denoiser: dict[str, object], multiple_px: int) -> int:
    """The longest edge of which a transformer with a table of positions knows every token."""
    tokens = denoiser.get("pos_embed_max_size")
    if type(tokens) is int and denoiser.get("_class_name") in _COUNTS_ALL_POSITIONS:
        tokens = math.isqrt(max(0, tokens))
    if type(tokens) is not int or not 0 < tokens * multiple_px <= bounds.MAX_SIZE_PX:
        return bounds.MAX_SIZE_PX
    return tokens * multiple_px


def limits_of(
    *,
    edge_px: int,
    multiple_px: int,
    bounds_area: bool = False,
    most_px: int = bounds.MAX_SIZE_PX,
) -> Limits:
    """Up to twice the trained edge, on the grid; steps and images as many as a request may ask."""
    smallest_px = -(-bounds.MIN_SIZE_PX // multiple_px) * multiple_px
    largest_px = max(smallest_px, min(2 * edge_px, most_px) // multiple_px * multiple_px)
    return Limits(
        min_size_px=smallest_px,
        max_size_px=largest_px,
        size_multiple_px=multiple_px,
        max_pixel_count=edge_px**2 if bounds_area else largest_px**2,
        max_step_count=bounds.MAX_STEP_COUNT,
        max_image_count=bounds.MAX_IMAGE_COUNT,
    )
