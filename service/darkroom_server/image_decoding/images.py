"""Images and masks that callers send: guarded decoding, documented conversions.

CPU-bound: to be called in the processes for it (`picture_processes.py`). Decoders see files only
after their structure was walked through, and no more of them than pixels.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image

from darkroom_server.domain.errors import ImageTooLarge, InvalidImage
from darkroom_server.domain.image_size import Size
from darkroom_server.domain.notices import Notice, NoticeReason
from darkroom_server.image_decoding import jpeg, png, webp
from darkroom_server.image_decoding.colour import Conversion, to_srgb
from darkroom_server.image_decoding.orientation import orientation
from darkroom_server.image_decoding.parts import Parts, TooIntricate
from darkroom_server.image_decoding.picture_being_read import begin_reading

# Every size is checked against a stricter limit below, before anything is decoded.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

#: What Pillow's decoders are known to raise on files that are broken or hostile.
_DECODE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    png.InflateError,
)

#: What undoes each EXIF orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """The largest input images that are taken; the pixels are those of the file's header.

    `max_total_bytes` and `max_total_pixel_count` are those of a request's reference images
    together, the pixels at the sizes in which a pipeline gets them.
    """

    max_bytes: int = 32 * 1024 * 1024
    max_total_bytes: int = 64 * 1024 * 1024
    max_pixel_count: int = 32 * 1024 * 1024
    max_total_pixel_count: int = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded input, upright, in whatever mode its file has; and what was done to it so far.

    `profile` is that of its colours: None for sRGB, empty for one that is broken.
    """

    pixels: Image.Image
    deep: bool
    profile: bytes | None
    notices: tuple[Notice, ...]

    @property
    def size(self) -> Size:
        """Its size as seen."""
        return Size(*self.pixels.size)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A file whose structure and header were read: what both its size and its pixels come from."""

    image: Image.Image
    parts: Parts
    orientation: int

    @property
    def size(self) -> Size:
        width_px, height_px = self.image.size
        # Orientations 5 to 8 lie on their side.
        return Size(height_px, width_px) if self.orientation >= 5 else Size(width_px, height_px)


def upright_size(content: bytes, field: str, limits: ImageLimits) -> Size:
    """The image's size as seen; nothing is decoded. Raises InvalidImage or ImageTooLarge."""
    return _open(content, field, limits).size


def decode(content: bytes, field: str, limits: ImageLimits) -> Picture:
    """The whole image; raises InvalidImage or ImageTooLarge, naming `field`."""
    opened = _open(content, field, limits)
    notices: list[Notice] = []
    is_png = content.startswith(png.SIGNATURE)
    if opened.parts.frame_count > 1:
        text = "only the first frame of the animation is used"
        notices.append(Notice(NoticeReason.FIRST_FRAME_USED, text, field))
    with _refusing_broken_files(field):
        opened.image.load()
        if is_png and not png.has_all_rows(opened.parts.pixels):
            raise InvalidImage(field, "the file is truncated")
        pixels: Image.Image = opened.image
        if opened.orientation in _UPRIGHT:
            pixels = pixels.transpose(_UPRIGHT[opened.orientation])
            text = f"the EXIF orientation {opened.orientation} was applied"
            notices.append(Notice(NoticeReason.IMAGE_ROTATED, text, field))
    deep = is_png and png.bit_depth(content) > 8
    return Picture(pixels, deep, opened.parts.profile, tuple(notices))


def says_alpha(content: bytes, field: str, limits: ImageLimits) -> bool:
    """Whether the header says that pixels may be transparent.

    Raises InvalidImage, ImageTooLarge.
    """
    return bool(_open(content, field, limits).image.has_transparency_data)


def shows_through(content: bytes, field: str, limits: ImageLimits) -> bool:
    """Whether a pixel is fully transparent; raises InvalidImage, ImageTooLarge."""
    if not says_alpha(content, field, limits):
        return False
    lowest, _ = alpha_of(decode(content, field, limits)).getextrema()
    return lowest == 0


def has_alpha(picture: Picture) -> bool:
    """Whether the file says how transparent each pixel is."""
    return bool(picture.pixels.has_transparency_data)


def alpha_of(picture: Picture) -> Image.Image:
    """Opacity, one channel, 0 to 255. Only for pictures that have it."""
    return _eight_bit(picture).convert("RGBA").getchannel("A")


def to_grey(picture: Picture) -> Image.Image:
    """Luma, one channel, 0 to 255; transparency plays no part."""
    return _eight_bit(picture).convert("L")


def to_rgb(
    picture: Picture, field: str, *, flatten: bool
) -> tuple[Image.Image, tuple[Notice, ...]]:
    """The picture as RGB in sRGB, and what that changed.

    With `flatten`, transparent pixels are laid on white; without, their colours stay as stored.
    """
    notices = (
        []
        if not picture.deep
        else [Notice(NoticeReason.DEPTH_REDUCED, "16 bits a channel were reduced to 8", field)]
    )
    mode = picture.pixels.mode
    pixels, alpha = _eight_bit(picture), None
    if mode not in ("RGB", "RGBA"):
        text = f"{_MODE_NAMES.get(mode, mode)} was converted to RGB"
        notices.append(Notice(NoticeReason.COLOR_CONVERTED, text, field))
    if pixels.has_transparency_data:
        alpha = alpha_of(picture)
        pixels = pixels.convert("RGBA").convert("RGB")
        if mode in ("1", "L", "LA"):
            # Back to the one channel that a profile of greys is for.
            pixels = pixels.getchannel("R")
    rgb, conversion = to_srgb(pixels, picture.profile)
    notices += _profile_notices(conversion, field)
    if alpha is None or not flatten or alpha.getextrema() == (255, 255):
        return rgb, tuple(notices)
    white = Image.new("RGB", rgb.size, "white")
    white.paste(rgb, mask=alpha)
    notices.append(Notice(NoticeReason.ALPHA_FLATTENED, "transparency was laid on white", field))
    return white, tuple(notices)


def _profile_notices(conversion: Conversion, field: str) -> list[Notice]:
    match conversion:
        case Conversion.NONE:
            return []
        case Conversion.CONVERTED:
            text = "the colours were converted from the file's profile to sRGB"
            return [Notice(NoticeReason.PROFILE_CONVERTED, text, field)]
        case Conversion.UNREADABLE:
            text = "the file's colour profile cannot be used; its colours were taken as sRGB"
            return [Notice(NoticeReason.PROFILE_IGNORED, text, field)]


_MODE_NAMES = {
    "1": "black and white",
    "L": "greyscale",
    "LA": "greyscale",
    "I": "greyscale",
    "I;16": "greyscale",
    "I;16B": "greyscale",
    "P": "a palette",
    "PA": "a palette",
}


def _open(content: bytes, field: str, limits: ImageLimits) -> _Opened:
    """Reads structure and header and holds them to the limits; nothing is decoded."""
    begin_reading(field)
    if len(content) > limits.max_bytes:
        raise ImageTooLarge(field, f"{len(content)} bytes; at most {limits.max_bytes} are taken")
    too_many_pixels = f"more than the {limits.max_pixel_count} pixels that are taken"
    kind = _sniff(content)
    # Its decoder makes room for the canvas before anything can be asked of it.
    if kind == "WEBP" and webp.canvas_pixel_count(content) > limits.max_pixel_count:
        raise ImageTooLarge(field, too_many_pixels)
    with _refusing_broken_files(field):
        match kind:
            case "PNG":
                parts = png.take_apart(content)
            case "JPEG":
                parts = jpeg.take_apart(content)
            case "WEBP":
                parts = webp.take_apart(content)
            case _:
                raise InvalidImage(field, "the content is not a PNG, JPEG or WebP file")
        try:
            image = Image.open(io.BytesIO(parts.pixels), formats=[kind])
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageTooLarge(field, too_many_pixels) from error
    width_px, height_px = image.size
    if width_px * height_px > limits.max_pixel_count:
        raise ImageTooLarge(field, f"{width_px}x{height_px} is {too_many_pixels}")
    return _Opened(image, parts, orientation(parts.exif, parts.xmp))


def _sniff(content: bytes) -> str | None:
    """Pillow's name of the format, by the first bytes."""
    if content.startswith(png.SIGNATURE):
        return "PNG"
    if content.startswith(jpeg.SIGNATURE):
        return "JPEG"
    return "WEBP" if webp.is_webp(content) else None


@contextmanager
def _refusing_broken_files(field: str) -> Iterator[None]:
    try:
        yield
    except TooIntricate as error:
        raise InvalidImage(field, str(error)) from error
    except _DECODE_ERRORS as error:
        raise InvalidImage(field, "the file is broken or truncated and does not decode") from error


def _eight_bit(picture: Picture) -> Image.Image:
    """The pixels with 8 bits a channel; decoders leave only 16-bit greyscale deeper than that."""
    if not picture.pixels.mode.startswith("I"):
        return picture.pixels
    return Image.fromarray((np.asarray(picture.pixels) >> 8).astype(np.uint8))
