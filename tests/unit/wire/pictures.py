"""Image files for tests, good and bad."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from darkroom_server.wire import png


def encoded(picture: Image.Image, format_: str = "PNG", **settings: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, format_, **settings)
    return file.getvalue()


def gradient(width_px: int = 24, height_px: int = 16) -> Image.Image:
    """RGB, every pixel different: red grows to the right, green downwards."""
    pixels = np.zeros((height_px, width_px, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width_px)
    pixels[..., 1] = np.linspace(0, 255, height_px)[:, None]
    return Image.fromarray(pixels)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def hand_made_png(
    width_px: int,
    height_px: int,
    rows: bytes,
    *,
    depth: int = 8,
    color_type: int = 0,
    interlaced: int = 0,
) -> bytes:
    """A PNG whose compressed data is `rows`, whatever the header says."""
    header = struct.pack(">IIBBBBB", width_px, height_px, depth, color_type, 0, 0, interlaced)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return png.SIGNATURE + b"".join(parts)
