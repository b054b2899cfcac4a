"""Image files for tests, good and bad."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
from PIL import Image

from darkroom_server.image_decoding import png


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


def segment(marker: int, body: bytes) -> bytes:
    """Of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg_of_scans(scan_count: int, edge_px: int = 5792) -> bytes:
    """Progressive and grey: after the first scan, each says in few bits that nothing changes."""
    block_count = (-(-edge_px // 8)) ** 2
    frame = struct.pack(">BHHB", 8, edge_px, edge_px, 1) + b"\1\x11\0"
    head = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC2, frame)
    one_code = bytes([1] + [0] * 15)
    # DC: no change, in one bit. AC: a run of 16,384 blocks and more, in 15.
    tables = segment(0xC4, b"\0" + one_code + b"\0") + segment(0xC4, b"\x10" + one_code + b"\xe0")
    first = segment(0xDA, b"\1\1\0\0\0\0") + bytes(-(-block_count // 8))
    runs = bytes(2 * (block_count // 16_384 + 2))
    rest = [segment(0xDA, b"\1\1\0" + bytes([1 + i % 63] * 2) + b"\0") + runs for i in range(63)]
    repeated = b"".join(rest) * (scan_count // 63 + 1)
    return head + tables + first + repeated[: len(rest[0]) * (scan_count - 1)] + b"\xff\xd9"


def noise_png(edge_px: int) -> bytes:
    """A picture that does not get smaller by being compressed."""
    file = io.BytesIO()
    pixels = random.Random(0).randbytes(edge_px * edge_px * 3)
    Image.frombytes("RGB", (edge_px, edge_px), pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
