"""The pictures that a request sends along: decoded, converted, at the output's size."""

from __future__ import annotations

import numpy as np
from PIL import Image

from darkroom_server.domain.errors import InvalidImage
from darkroom_server.domain.image_size import Size
from darkroom_server.domain.jobs import FillSpec, MaskPolarity, Pixels, SourceSpec
from darkroom_server.domain.notices import Notice, NoticeReason
from darkroom_server.image_decoding.images import (
    ImageLimits,
    Picture,
    alpha_of,
    decode,
    has_alpha,
    to_grey,
    to_rgb,
)
from darkroom_server.requests.image_requests import FillInput, SourceInput

IMAGE_FIELD = "image.content"
MASK_FIELD = "mask.content"
#: Lightest grey that counts as black is one less: half of full scale.
MASK_THRESHOLD = 128
_OPAQUE = "nothing in it is transparent, so there is no mask"


def decode_fill(
    fill: FillInput,
    size: Size,
    *,
    strength: float,
    preserve_unmasked: bool,
    limits: ImageLimits,
) -> tuple[FillSpec, tuple[Notice, ...]]:
    """Decodes and scales both files to `size`, without keeping their aspect.

    The image is scaled as diffusers' image processor does it (Lanczos), the mask by the nearest
    pixel after it was made black and white. CPU-bound. Raises InvalidImage or ImageTooLarge.
    """
    picture = decode(fill.image, IMAGE_FIELD, limits)
    rgb, notices = _rgb(picture, size, flatten=fill.mask is not None)
    mask_picture, mask_field = picture, IMAGE_FIELD
    if fill.mask is not None:
        mask_picture, mask_field = decode(fill.mask, MASK_FIELD, limits), MASK_FIELD
        notices += mask_picture.notices + _mask_notices(mask_picture, picture, fill.mask_polarity)
    mask = _black_and_white(mask_picture, mask_field, fill.mask_polarity)
    # A mask of its own may well keep everything; an image's transparency that does is none.
    if fill.mask is None and mask.getbbox() is None:
        raise InvalidImage(IMAGE_FIELD, _OPAQUE)
    scaled_mask = _scaled(mask, size, Image.Resampling.NEAREST)
    if scaled_mask.getbbox() is None:
        text = (
            _what_it_holds(mask_picture, fill.mask_polarity)
            if mask.getbbox() is None
            else f"nothing of what the mask asks for is left at {size}"
        )
        text += ", so nothing is repainted"
        notices += (Notice(NoticeReason.MASK_REPAINTS_NOTHING, text, mask_field),)
    spec = FillSpec(
        image=_pixels(rgb),
        mask=_pixels(scaled_mask),
        strength=strength,
        preserve_unmasked=preserve_unmasked,
    )
    return spec, notices


def decode_source(
    source: SourceInput, size: Size, *, strength: float, limits: ImageLimits
) -> tuple[SourceSpec, tuple[Notice, ...]]:
    """Decodes the image to begin with and scales it as `decode_fill` does. CPU-bound.

    Raises InvalidImage, ImageTooLarge.
    """
    rgb, notices = _rgb(decode(source.image, IMAGE_FIELD, limits), size, flatten=True)
    return SourceSpec(image=_pixels(rgb), strength=strength), notices


def _rgb(picture: Picture, size: Size, *, flatten: bool) -> tuple[Image.Image, tuple[Notice, ...]]:
    """The image in RGB at the output's size."""
    rgb, notices = to_rgb(picture, IMAGE_FIELD, flatten=flatten)
    notices = picture.notices + notices
    if picture.size != size:
        text = f"the image was scaled from {picture.size} to {size}"
        notices += (Notice(NoticeReason.IMAGE_RESIZED, text, IMAGE_FIELD),)
    return _scaled(rgb, size, Image.Resampling.LANCZOS), notices


def _mask_notices(mask: Picture, image: Picture, polarity: MaskPolarity) -> tuple[Notice, ...]:
    notices: tuple[Notice, ...] = ()
    if mask.size != image.size:
        text = f"the mask was scaled from {mask.size} to the image's {image.size}"
        notices += (Notice(NoticeReason.MASK_RESIZED, text, MASK_FIELD),)
    by_colour = polarity is not MaskPolarity.TRANSPARENT_REPAINTS
    if by_colour and has_alpha(mask) and alpha_of(mask).getextrema() != (255, 255):
        text = "the mask's transparency plays no part; its colours do"
        notices += (Notice(NoticeReason.ALPHA_IGNORED, text, MASK_FIELD),)
    return notices


def _black_and_white(mask: Picture, field: str, polarity: MaskPolarity) -> Image.Image:
    """One channel: 255 where new pixels are wanted, else 0."""
    match polarity:
        case MaskPolarity.WHITE_REPAINTS:
            repaint = np.asarray(to_grey(mask)) >= MASK_THRESHOLD
        case MaskPolarity.BLACK_REPAINTS:
            repaint = np.asarray(to_grey(mask)) < MASK_THRESHOLD
        case MaskPolarity.TRANSPARENT_REPAINTS:
            if not has_alpha(mask):
                raise InvalidImage(field, _OPAQUE)
            repaint = np.asarray(alpha_of(mask)) == 0
    return Image.fromarray(np.where(repaint, np.uint8(255), np.uint8(0)))


def _what_it_holds(mask: Picture, polarity: MaskPolarity) -> str:
    """Values of a mask that asks for nothing, and which ones would ask."""
    values = alpha_of(mask) if polarity is MaskPolarity.TRANSPARENT_REPAINTS else to_grey(mask)
    lowest, highest = values.getextrema()
    match polarity:
        case MaskPolarity.WHITE_REPAINTS:
            found, wanted = f"largest value is {highest}", f"from {MASK_THRESHOLD} on"
        case MaskPolarity.BLACK_REPAINTS:
            found, wanted = f"values are {lowest} to {highest}", f"below {MASK_THRESHOLD}"
        case MaskPolarity.TRANSPARENT_REPAINTS:
            found, wanted = f"opacities are {lowest} to {highest}", "at 0"
    return f"the mask's {found} of 255, and a pixel is repainted {wanted}"


def _scaled(picture: Image.Image, size: Size, resampling: Image.Resampling) -> Image.Image:
    wanted = (size.width_px, size.height_px)
    return picture if picture.size == wanted else picture.resize(wanted, resampling)


def _pixels(picture: Image.Image) -> Pixels:
    channel_count = len(picture.getbands())
    return Pixels(picture.width, picture.height, channel_count, picture.tobytes())
