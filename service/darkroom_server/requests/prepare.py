"""From a request and its model to what will run: the steps that both edges take alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from darkroom_server.domain.adapters import AdapterVersion
from darkroom_server.domain.image_size import Size
from darkroom_server.domain.jobs import Pixels, Task
from darkroom_server.domain.models import ModelInfo
from darkroom_server.domain.notices import Notice
from darkroom_server.domain.references import ReferenceRule
from darkroom_server.image_decoding.images import upright_size
from darkroom_server.image_decoding.picture_processes import Pictures
from darkroom_server.requests.fill import IMAGE_FIELD, decode_fill, decode_source
from darkroom_server.requests.image_requests import FillInput, ImageRequest
from darkroom_server.requests.references import check_sizes, decode_reference, reference_field
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
    if model.references is not None and request.task is Task.EDIT:
        return await _edit(
            request, model, model.references, pictures, adapters=adapters, choose_seed=choose_seed
        )
    if given is None:
        return resolve(request, model, adapters=adapters, choose_seed=choose_seed)
    limits = pictures.limits
    source = await pictures.run(upright_size, given.image, IMAGE_FIELD, limits)
    resolved = resolve(request, model, source=source, adapters=adapters, choose_seed=choose_seed)
    resolved = await _with_beside(request, model, pictures, resolved)
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


async def _edit(
    request: ImageRequest,
    model: ModelInfo,
    rule: ReferenceRule,
    pictures: Pictures,
    *,
    adapters: Sequence[AdapterVersion],
    choose_seed: Callable[[int], int],
) -> Resolved:
    """The sizes of all images are known before one is decoded, and then one after another is."""
    sizes = await _sizes(request, rule, pictures)
    source = rule.followed(sizes)
    resolved = resolve(request, model, source=source, adapters=adapters, choose_seed=choose_seed)
    shown = [rule.shown(size) for size in sizes]
    return resolved.with_references(*await _decoded(request.reference_images, shown, pictures))


async def _with_beside(
    request: ImageRequest, model: ModelInfo, pictures: Pictures, resolved: Resolved
) -> Resolved:
    """The same with what stands beside the image to change."""
    rule = model.references
    if rule is None or not request.reference_images:
        return resolved
    made = Size(resolved.spec.width_px, resolved.spec.height_px)
    sizes = await _sizes(request, rule, pictures)
    shown = [made if rule.fits_output else rule.shown(size) for size in sizes]
    return resolved.with_references(*await _decoded(request.reference_images, shown, pictures))


async def _sizes(request: ImageRequest, rule: ReferenceRule, pictures: Pictures) -> list[Size]:
    """Those of all reference images, which the model takes."""
    limits = pictures.limits
    sizes = [
        await pictures.run(upright_size, content, reference_field(index), limits)
        for index, content in enumerate(request.reference_images)
    ]
    check_sizes(sizes, rule, limits)
    return sizes


async def _decoded(
    contents: Sequence[bytes], sizes: Sequence[Size], pictures: Pictures
) -> tuple[list[Pixels], tuple[Notice, ...]]:
    images: list[Pixels] = []
    notices: tuple[Notice, ...] = ()
    for index, (content, size) in enumerate(zip(contents, sizes, strict=True)):
        pixels, found = await pictures.run(decode_reference, content, index, size, pictures.limits)
        images.append(pixels)
        notices += found
    return images, notices
