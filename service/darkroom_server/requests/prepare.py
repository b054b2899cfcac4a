"""From a request and its model to what will run: the steps that both edges take alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from darkroom_server.domain.adapters import AdapterVersion
from darkroom_server.domain.image_size import Size
from darkroom_server.domain.models import ModelInfo
from darkroom_server.image_decoding.images import upright_size
from darkroom_server.image_decoding.picture_processes import Pictures
from darkroom_server.requests.fill import IMAGE_FIELD, decode_fill, decode_source
from darkroom_server.requests.image_requests import FillInput, ImageRequest
from darkroom_server.requests.resolve import Resolved, resolve


async def prepare(
    request: ImageRequest,
    model: ModelInfo,
    *,
    pictures: Pictures,
    adapters: Sequence[AdapterVersion] = (),
    choose_seed: Callable[[int], int],
) -> Resolved:
    """Resolves the request and decodes what it sends along, elsewhere.

    `adapters` and `choose_seed` are `resolve`'s. Raises every FieldError.
    """
    given = request.fill or request.source
    if given is None:
        return resolve(request, model, adapters=adapters, choose_seed=choose_seed)
    limits = pictures.limits
    source = await pictures.run(upright_size, given.image, IMAGE_FIELD, limits)
    resolved = resolve(request, model, source=source, adapters=adapters, choose_seed=choose_seed)
    size, strength = Size(resolved.spec.width_px, resolved.spec.height_px), resolved.strength
    if isinstance(given, FillInput):
        decoded = await pictures.run(
            decode_fill,
            given,
            size,
            strength=strength,
            preserve_unmasked=resolved.preserve_unmasked,
            limits=limits,
        )
        return resolved.with_pixels(*decoded)
    return resolved.with_pixels(
        *await pictures.run(decode_source, given, size, strength=strength, limits=limits)
    )
