"""Whether a PNG carries all of its rows.

Decoders take a PNG whose compressed data ends early but cleanly, and leave the missing rows blank.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import cast

from isal import isal_zlib
from isal.igzip_lib import IsalError

#: Raised on compressed data that is damaged.
InflateError = cast("type[Exception]", IsalError)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNEL_COUNTS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
#: Adam7: first column, first row, column step, row step of each pass (PNG specification, 8.2).
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_PIECE_BYTES = 1 << 20


def bit_depth(content: bytes) -> int:
    """Bits per channel, from the header of a file that is known to be a PNG."""
    return content[24] if len(content) > 24 else 8


def has_all_rows(content: bytes) -> bool:
    """Whether the image data inflates to as many bytes as the header promises.

    `content` must be a PNG that a decoder has already taken. Inflates piece by piece, in constant
    memory; takes about as long as decoding. Raises InflateError where a decoder would have failed.
    """
    missing_byte_count = _row_byte_count(content)
    inflater = isal_zlib.decompressobj()
    for data in _image_data(content):
        pending: bytes | memoryview = data
        while pending and missing_byte_count > 0 and not inflater.eof:
            missing_byte_count -= len(inflater.decompress(pending, _PIECE_BYTES))
            pending = inflater.unconsumed_tail
    while missing_byte_count > 0 and not inflater.eof:
        rest = inflater.flush(_PIECE_BYTES)
        if not rest:
            break
        missing_byte_count -= len(rest)
    return missing_byte_count <= 0


def _row_byte_count(content: bytes) -> int:
    """Length of all rows, each with its filter byte, as they leave the decompressor."""
    width_px, height_px, depth, color_type, _, _, interlaced = struct.unpack_from(
        ">IIBBBBB", content, 16
    )
    bits_per_pixel = depth * _CHANNEL_COUNTS.get(color_type, 1)
    total = 0
    for first_x, first_y, step_x, step_y in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns = -(-(width_px - first_x) // step_x)
        rows = -(-(height_px - first_y) // step_y)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits_per_pixel // 8))
    return total


def _image_data(content: bytes) -> Iterator[memoryview]:
    view = memoryview(content)
    offset = len(SIGNATURE)
    while offset + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, offset)
        if kind == b"IDAT":
            yield view[offset + 8 : offset + 8 + length]
        offset += length + 12
