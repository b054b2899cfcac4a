"""From a request and its model to what will run: the steps that both edges take alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from darkroom_server.domain.jobs import FillSpec, SourceSpec
from darkroom_server.domain.models import ModelInfo
from darkroom_server.wire.dimensions import Size
from darkroom_server.wire.fill import IMAGE_FIELD, decode_fill, decode_source
from darkroom_server.wire.images import ImageLimits, upright_size
from darkroom_server.wire.notices import Notice
from darkroom_server.wire.requests import FillInput, ImageRequest
from darkroom_server.wire.resolve import Resolved, resolve


async def prepare(
    request: ImageRequest,
    model: ModelInfo,
    *,
    image_limits: ImageLimits,
    choose_seed: Callable[[int], int],
) -> Resolved:
    """Resolves the request and decodes what it sends along; pixels are touched off the loop.

    `choose_seed` is `resolve`'s. Raises every FieldError.
    """
    given = request.fill or request.source
    if given is None:
        return resolve(request, model, choose_seed=choose_seed)
    source = await asyncio.to_thread(upright_size, given.image, IMAGE_FIELD, image_limits)
    resolved = resolve(request, model, source=source, choose_seed=choose_seed)
    size = Size(resolved.spec.width_px, resolved.spec.height_px)

    def decode() -> tuple[FillSpec | SourceSpec, tuple[Notice, ...]]:
        strength = resolved.strength
        if isinstance(given, FillInput):
            return decode_fill(given, size, strength=strength, limits=image_limits)
        return decode_source(given, size, strength=strength, limits=image_limits)

    return resolved.with_pixels(*await asyncio.to_thread(decode))
