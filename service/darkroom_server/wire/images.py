"""Images and masks that callers send: guarded decoding, documented conversions.

Thread-safe and CPU-bound: to be called off the event loop. Nothing global of Pillow is changed
after import, so concurrent requests cannot race over it.
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
from PIL import ExifTags, Image

from darkroom_server.domain.errors import ImageTooLarge, InvalidImage
from darkroom_server.wire import png
from darkroom_server.wire.dimensions import Size
from darkroom_server.wire.notices import Notice, NoticeReason

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
    """The largest input images that are taken; the pixels are those of the file's header."""

    max_bytes: int = 32 * 1024 * 1024
    max_pixel_count: int = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded input, upright, in whatever mode its file has; and what was done to it so far."""

    pixels: Image.Image
    deep: bool
    notices: tuple[Notice, ...]

    @property
    def size(self) -> Size:
        """Its size as seen."""
        return Size(*self.pixels.size)


def upright_size(content: bytes, field: str, limits: ImageLimits) -> Size:
    """The image's size as seen, from its header alone; raises InvalidImage or ImageTooLarge."""
    opened = _open(content, field, limits)
    width_px, height_px = opened.size
    # Orientations 5 to 8 lie on their side.
    return Size(height_px, width_px) if _orientation(opened) >= 5 else Size(width_px, height_px)


def decode(content: bytes, field: str, limits: ImageLimits) -> Picture:
    """The whole image; raises InvalidImage or ImageTooLarge, naming `field`."""
    opened = _open(content, field, limits)
    notices: list[Notice] = []
    is_png = content.startswith(png.SIGNATURE)
    with _refusing_broken_files(field):
        # A photograph with an embedded thumbnail or depth map (MPO) is no animation.
        if opened.format != "MPO" and getattr(opened, "n_frames", 1) > 1:
            text = "only the first frame of the animation is used"
            notices.append(Notice(NoticeReason.FIRST_FRAME_USED, text, field))
        opened.load()
        if is_png and not png.has_all_rows(content):
            raise InvalidImage(field, "the file is truncated")
        orientation = _orientation(opened)
        pixels: Image.Image = opened
        if orientation in _UPRIGHT:
            pixels = opened.transpose(_UPRIGHT[orientation])
            text = f"the EXIF orientation {orientation} was applied"
            notices.append(Notice(NoticeReason.IMAGE_ROTATED, text, field))
    deep = is_png and png.bit_depth(content) > 8
    return Picture(pixels, deep, tuple(notices))


def says_alpha(content: bytes, field: str, limits: ImageLimits) -> bool:
    """Whether the header says that pixels may be transparent; raises as `decode`."""
    return bool(_open(content, field, limits).has_transparency_data)


def shows_through(content: bytes, field: str, limits: ImageLimits) -> bool:
    """Whether a pixel is fully transparent; raises as `decode`."""
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
    """The picture as RGB and what that changed.

    With `flatten`, transparent pixels are laid on white; without, their colours stay as stored.
    """
    notices = (
        []
        if not picture.deep
        else [Notice(NoticeReason.DEPTH_REDUCED, "16 bits a channel were reduced to 8", field)]
    )
    mode = picture.pixels.mode
    pixels = _eight_bit(picture)
    if mode not in ("RGB", "RGBA"):
        text = f"{_MODE_NAMES.get(mode, mode)} was converted to RGB"
        notices.append(Notice(NoticeReason.COLOR_CONVERTED, text, field))
    if not pixels.has_transparency_data:
        return pixels.convert("RGB"), tuple(notices)
    pixels = pixels.convert("RGBA")
    rgb, alpha = pixels.convert("RGB"), pixels.getchannel("A")
    if not flatten or alpha.getextrema() == (255, 255):
        return rgb, tuple(notices)
    white = Image.new("RGB", rgb.size, "white")
    white.paste(rgb, mask=alpha)
    notices.append(Notice(NoticeReason.ALPHA_FLATTENED, "transparency was laid on white", field))
    return white, tuple(notices)


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


def _open(content: bytes, field: str, limits: ImageLimits) -> Image.Image:
    """Reads the header and holds it to the limits; nothing is decoded."""
    if len(content) > limits.max_bytes:
        raise ImageTooLarge(field, f"{len(content)} bytes; at most {limits.max_bytes} are taken")
    kind = _sniff(content)
    if kind is None:
        raise InvalidImage(field, "the content is not a PNG, JPEG or WebP file")
    too_many_pixels = f"more than the {limits.max_pixel_count} pixels that are taken"
    with _refusing_broken_files(field):
        try:
            opened = Image.open(io.BytesIO(content), formats=[kind])
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageTooLarge(field, too_many_pixels) from error
    width_px, height_px = opened.size
    if width_px * height_px > limits.max_pixel_count:
        raise ImageTooLarge(field, f"{width_px}x{height_px} is {too_many_pixels}")
    return opened


def _sniff(content: bytes) -> str | None:
    """Pillow's name of the format, told by the first bytes."""
    if content.startswith(png.SIGNATURE):
        return "PNG"
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    return None


@contextmanager
def _refusing_broken_files(field: str) -> Iterator[None]:
    try:
        yield
    except _DECODE_ERRORS as error:
        raise InvalidImage(field, "the file is broken or truncated and does not decode") from error


def _orientation(opened: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) when there is none that can be read."""
    try:
        # The method of PNG files would decode them first; that of the base class does not.
        value = Image.Image.getexif(opened).get(ExifTags.Base.Orientation, 1)
    except _DECODE_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _eight_bit(picture: Picture) -> Image.Image:
    """The pixels with 8 bits a channel; decoders leave only 16-bit greyscale deeper than that."""
    if not picture.pixels.mode.startswith("I"):
        return picture.pixels
    return Image.fromarray((np.asarray(picture.pixels) >> 8).astype(np.uint8))
