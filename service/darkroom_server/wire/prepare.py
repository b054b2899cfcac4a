"""From a request and its model to what will run: the steps that both edges take alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from darkroom_server.domain.models import ModelInfo
from darkroom_server.wire.dimensions import Size
from darkroom_server.wire.fill import IMAGE_FIELD, decode_fill
from darkroom_server.wire.images import ImageLimits, upright_size
from darkroom_server.wire.requests import ImageRequest
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
    fill = request.fill
    if fill is None:
        return resolve(request, model, choose_seed=choose_seed)
    source = await asyncio.to_thread(upright_size, fill.image, IMAGE_FIELD, image_limits)
    resolved = resolve(request, model, source=source, choose_seed=choose_seed)
    spec, notices = await asyncio.to_thread(
        decode_fill,
        fill,
        Size(resolved.spec.width_px, resolved.spec.height_px),
        strength=resolved.strength,
        limits=image_limits,
    )
    return resolved.with_fill(spec, notices)
