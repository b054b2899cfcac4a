"""Finished pixels become a file: PNG, JPEG or WebP.

Pure and CPU-bound; the compressors release the interpreter lock, so threads work side by side.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping

import numpy as np
from PIL import ExifTags, Image

from darkroom_server.backends.base import ImageArray
from darkroom_server.domain.jobs import ImageFormat, OutputSpec

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FILTER_UP = 2
#: libwebp's effort, 0 to 6: 0 is four times as fast as the default for a few per cent of size.
_WEBP_METHOD = 0
#: EXIF's UserComment begins with the name of its character set.
_UNICODE_COMMENT = b"UNICODE\x00"
_MAX_COMMENT_BYTES = 60_000


def encode_image(
    array: ImageArray, output: OutputSpec, *, metadata: Mapping[str, str] | None = None
) -> bytes:
    """The file for pixels of shape [height, width, 3].

    `metadata` goes into a PNG as one text chunk per entry, under a keyword of 1 to 79 Latin
    letters; into the other formats as lines of EXIF's UserComment.
    """
    metadata = metadata or {}
    match output.format:
        case ImageFormat.PNG:
            return _png(array, metadata)
        case ImageFormat.JPEG:
            return _by_pillow(array, "JPEG", metadata, quality=output.quality)
        case ImageFormat.WEBP if output.lossless:
            return _by_pillow(
                array, "WEBP", metadata, lossless=True, quality=0, method=_WEBP_METHOD
            )
        case ImageFormat.WEBP:
            return _by_pillow(array, "WEBP", metadata, quality=output.quality, method=_WEBP_METHOD)


def fitted_size(width_px: int, height_px: int, max_edge_px: int) -> tuple[int, int]:
    """Width and height scaled down until the longest edge is at most `max_edge_px`."""
    scale = min(1.0, max_edge_px / max(width_px, height_px))
    return max(1, round(width_px * scale)), max(1, round(height_px * scale))


def encode_preview(array: ImageArray, size: tuple[int, int], *, quality: int) -> bytes:
    """A JPEG of pixels [h, w, 3], scaled to `size` (width, height)."""
    file = io.BytesIO()
    scaled = Image.fromarray(array).resize(size, Image.Resampling.BICUBIC)
    scaled.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _png(array: ImageArray, metadata: Mapping[str, str]) -> bytes:
    """Filter Up for every row, zlib's runs: far faster than adaptive filters, as small."""
    height_px, width_px, channel_count = array.shape
    rows = array.reshape(height_px, width_px * channel_count)
    filtered = np.empty((height_px, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _FILTER_UP
    filtered[:1, 1:] = rows[:1]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    chunks = [
        _chunk(b"IHDR", header),
        *(_text_chunk(keyword, text) for keyword, text in metadata.items()),
        _chunk(b"IDAT", _deflated(filtered.tobytes())),
        _chunk(b"IEND", b""),
    ]
    return _SIGNATURE + b"".join(chunks)


def _deflated(rows: bytes) -> bytes:
    """By zlib, which writes the same bytes for the same pixels. isal's compressor is faster, and
    sometimes writes others.
    """
    compressor = zlib.compressobj(1, strategy=zlib.Z_RLE)
    return compressor.compress(rows) + compressor.flush()


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def _text_chunk(keyword: str, text: str) -> bytes:
    """An uncompressed iTXt chunk without language or translation; zero bytes become spaces."""
    body = text.replace("\x00", " ").encode("utf-8", "replace")
    return _chunk(b"iTXt", keyword.encode("latin-1") + b"\x00\x00\x00\x00\x00" + body)


def _by_pillow(
    array: ImageArray, name: str, metadata: Mapping[str, str], **settings: int | bool
) -> bytes:
    file = io.BytesIO()
    if metadata:
        Image.fromarray(array).save(file, name, exif=_exif(metadata), **settings)
    else:
        Image.fromarray(array).save(file, name, **settings)
    return file.getvalue()


def _exif(metadata: Mapping[str, str]) -> bytes:
    """UserComment alone; an EXIF segment holds 64 KiB, so an enormous prompt loses its end."""
    text = "\n".join(f"{keyword}: {value}" for keyword, value in metadata.items())
    exif = Image.Exif()
    comment = _UNICODE_COMMENT + text.encode("utf-16-be", "replace")[:_MAX_COMMENT_BYTES]
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    return exif.tobytes()
