"""From the fields of a body to the request that both edges share."""

from __future__ import annotations

import re
from dataclasses import dataclass

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.jobs import FeatureCache, ImageFormat, PreviewSpec, Task
from darkroom_server.domain.models import ModelRef
from darkroom_server.gateway.bodies import off_loop
from darkroom_server.gateway.fields import Fields, whole
from darkroom_server.gateway.pictures import picture_bytes
from darkroom_server.wire.images import says_alpha, shows_through
from darkroom_server.wire.limits import check_limits, check_name, check_strength
from darkroom_server.wire.picture_processes import Pictures
from darkroom_server.wire.requests import (
    FillInput,
    ImageRequest,
    MaskPolarity,
    OutputRequest,
    SourceInput,
    UnsupportedParameterPolicy,
)

FORMATS = {
    "png": ImageFormat.PNG,
    "jpeg": ImageFormat.JPEG,
    "jpg": ImageFormat.JPEG,
    "webp": ImageFormat.WEBP,
}
_POLARITIES = {polarity.value: polarity for polarity in MaskPolarity}
_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})", re.IGNORECASE | re.ASCII)
#: Sizes that have a name at fal.
_NAMED_SIZES = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a dialect means what its bodies leave open.

    `needs_image`: the route changes images, so that one without would draw something else.
    """

    format: ImageFormat = ImageFormat.PNG
    mask_polarity: MaskPolarity = MaskPolarity.WHITE_REPAINTS
    preview: PreviewSpec | None = None
    needs_image: bool = False


async def read_request(
    fields: Fields, manner: Manner, tasks: frozenset[Task], pictures: Pictures
) -> tuple[ModelRef, ImageRequest]:
    """The model asked for and what is asked of it; images are looked at off the loop.

    `tasks` are those of the model. Raises FieldError, naming fields as `darkroom.v1` does or as the
    caller did.
    """
    model = fields.text("model") or ""
    check_name("model", model)
    width_px, height_px = _size(fields)
    seed = fields.whole("seed")
    task, fill, source = await _given(fields, manner, tasks, pictures)
    # A form's, or JSON's, 0 is an error; only what is absent means one image.
    image_count = fields.whole("image_count")
    threshold = fields.number("feature_cache.threshold")
    request = ImageRequest(
        task=task,
        prompt=fields.text("prompt") or "",
        negative_prompt=fields.one_text("negative_prompt") or None,
        width_px=width_px,
        height_px=height_px,
        step_count=fields.whole("step_count"),
        guidance_scale=fields.number("guidance_scale"),
        # Below 0 is how callers of such services ask for any.
        seed=None if seed is not None and seed < 0 else seed,
        image_count=1 if image_count is None else image_count,
        scheduler=fields.text("scheduler") or None,
        output=_output(fields, manner.format),
        preview=manner.preview,
        unsupported_parameter_policy=UnsupportedParameterPolicy.IGNORE,
        fill=fill,
        source=source,
        feature_cache=None if threshold is None else FeatureCache(threshold=threshold),
    )
    # Of a text that may be as long as the body.
    await off_loop(check_limits, request)
    return ModelRef(model), request


async def _given(
    fields: Fields, manner: Manner, tasks: frozenset[Task], pictures: Pictures
) -> tuple[Task, FillInput | None, SourceInput | None]:
    """The task that the images sent along make of the request."""
    image, mask = fields.picture("image.content"), fields.picture("mask.content")
    strength, chosen = fields.number("strength"), fields.choice("mask_polarity", _POLARITIES)
    preserve_unmasked = fields.flag("preserve_unmasked")
    if image is None:
        if manner.needs_image or mask is not None:
            raise InvalidParameter("image.content", "give the image to change")
        check_strength(strength)
        fields.ignore("strength", "mask_polarity", "preserve_unmasked")
        return Task.TEXT_TO_IMAGE, None, None
    name = fields.name("image.content")
    content = await off_loop(picture_bytes, image, name)
    polarity = manner.mask_polarity if chosen is None else _POLARITIES[chosen]
    if mask is None and chosen is None:
        only_fills = Task.FILL in tasks and Task.IMAGE_TO_IMAGE not in tasks
        by_colour = polarity is MaskPolarity.WHITE_REPAINTS
        if not only_fills and (
            by_colour or not await pictures.run(shows_through, content, name, pictures.limits)
        ):
            fields.ignore("preserve_unmasked")
            return Task.IMAGE_TO_IMAGE, None, SourceInput(image=content, strength=strength)
        if await pictures.run(says_alpha, content, name, pictures.limits):
            polarity = MaskPolarity.TRANSPARENT_REPAINTS
    mask_name = fields.name("mask.content")
    fill = FillInput(
        image=content,
        mask=None if mask is None else await off_loop(picture_bytes, mask, mask_name),
        mask_polarity=polarity,
        strength=strength,
        preserve_unmasked=preserve_unmasked,
    )
    return Task.FILL, fill, None


def _size(fields: Fields) -> tuple[int | None, int | None]:
    """Width and height, from their own fields or from a size."""
    own = fields.whole("width_px"), fields.whole("height_px")
    value, name = fields.raw("size"), fields.name("size")
    if value is None or value == "auto":
        return own
    if isinstance(value, dict):
        size = whole(value.get("width"), name), whole(value.get("height"), name)
    else:
        match = _SIZE.fullmatch(value) if isinstance(value, str) else None
        if match is not None:
            size = int(match[1]), int(match[2])
        elif isinstance(value, str) and value in _NAMED_SIZES:
            size = _NAMED_SIZES[value]
        else:
            known = ", ".join(_NAMED_SIZES)
            raise InvalidParameter(name, f'is no size such as "1024x768", nor one of: {known}')
    if any(one is not None and one != other for one, other in zip(own, size, strict=True)):
        raise InvalidParameter(name, "says something else than width and height")
    return size


def _output(fields: Fields, default: ImageFormat) -> OutputRequest:
    asked = fields.choice("output.format", FORMATS)
    chosen = default if asked is None else FORMATS[asked]
    quality = fields.whole("output.quality")
    if quality is not None and not 0 <= quality <= 100:
        raise InvalidParameter("output.quality", f"{quality} is not between 0 and 100")
    if quality == 0:
        quality = 1  # OpenAI's scale begins at 0, encoders' at 1
    if chosen is ImageFormat.PNG:
        # Callers send a compression along with PNG too, where it means nothing.
        fields.ignore("output.quality")
        quality = None
    return OutputRequest(format=chosen, quality=quality)
