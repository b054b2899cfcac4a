"""PNG files taken apart, and whether one carries all of its rows.

Decoders take a PNG whose compressed data ends early but cleanly, and leave the missing rows blank.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import cast

from isal import isal_zlib
from isal.igzip_lib import IsalError

from darkroom_server.image_decoding.parts import MAX_PROFILE_BYTES, Parts, check_section_count
from darkroom_server.image_decoding.rgb_profile import Chromaticities, rgb_profile

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
#: What pixels are made of; the rest of a file is for people and other programs.
_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
#: Other chunks that are read. Each counts once, in any position: some programs write it last.
_TOLD_CHUNKS = frozenset({b"eXIf", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"acTL", b"iTXt"})
_XMP = b"XML:com.adobe.xmp"
#: Where programs put EXIF before there was a chunk for it: as hexadecimal text.
_RAW_EXIF = (b"Raw profile type exif", b"Raw profile type APP1")
_MAX_TEXT_BYTES = 1 << 20


def take_apart(content: bytes) -> Parts:
    """The parts of a file that begins as a PNG; raises TooIntricate.

    What is broken is left to the decoder to find.
    """
    kept: list[bytes | memoryview] = [SIGNATURE]
    chunks: dict[bytes, bytes] = {}
    seen: set[bytes] = set()
    view = memoryview(content)
    for count, (offset, kind, length_bytes) in enumerate(_chunks(content), start=1):
        check_section_count(count, "chunks")
        end = offset + 12 + length_bytes
        if kind in _PIXEL_CHUNKS:
            # A second header would be believed by the decoder, after the first was checked.
            if (kind == b"IDAT" and length_bytes) or kind not in seen:
                kept.append(view[offset:end])
            seen.add(kind)
        elif kind in _TOLD_CHUNKS or kind in (b"tEXt", b"zTXt"):
            name, body = _told(kind, content[offset + 8 : end - 4])
            chunks.setdefault(name, body)
    frames = chunks.get(b"acTL", b"")
    return Parts(
        pixels=b"".join(kept),
        exif=chunks.get(b"eXIf", chunks.get(b"exif")),
        xmp=chunks.get(b"xmp"),
        profile=_profile(chunks),
        frame_count=int.from_bytes(frames[:4], "big") if len(frames) >= 8 else 1,
    )


def _chunks(content: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Offset, kind and length of each chunk, up to the end or to where the file is cut."""
    offset = len(SIGNATURE)
    while offset + 8 <= len(content):
        length_bytes, kind = struct.unpack_from(">I4s", content, offset)
        yield offset, kind, length_bytes
        if kind == b"IEND":
            return
        offset += length_bytes + 12


def _told(kind: bytes, body: bytes) -> tuple[bytes, bytes]:
    """What a chunk is known by, and its content; texts that nothing is read from have no name."""
    if kind not in (b"iTXt", b"tEXt", b"zTXt"):
        return kind, body
    keyword, _, rest = body[:_MAX_TEXT_BYTES].partition(b"\0")
    if kind == b"iTXt" and keyword == _XMP and rest[:1] == b"\0":
        # Flag, method, language and translated keyword stand before the text.
        return b"xmp", rest[2:].split(b"\0", 2)[-1]
    if keyword in _RAW_EXIF and kind != b"iTXt":
        return b"exif", _raw_exif(rest if kind == b"tEXt" else _inflated(rest[1:], _MAX_TEXT_BYTES))
    return b"", b""


def _raw_exif(text: bytes) -> bytes:
    """Of a name, a length and lines of digits."""
    try:
        found = bytes.fromhex("".join(text.decode("latin-1").split()[2:]))
    except ValueError:
        return b""
    return found.removeprefix(b"Exif\0\0")


def _inflated(data: bytes, limit_bytes: int) -> bytes:
    """The data unpacked; empty when it is damaged or longer than that."""
    inflater = zlib.decompressobj()
    try:
        found = inflater.decompress(data, limit_bytes)
    except zlib.error:
        return b""
    return found if inflater.eof else b""


def _profile(chunks: dict[bytes, bytes]) -> bytes | None:
    """The profile of the file's colours, given whole or by its numbers (specification, 4.3)."""
    if b"iCCP" in chunks:
        _, _, packed = chunks[b"iCCP"].partition(b"\0")
        return _inflated(packed[1:], MAX_PROFILE_BYTES)
    if b"sRGB" in chunks or not {b"gAMA", b"cHRM"} & chunks.keys():
        return None
    try:
        gamma = struct.unpack(">I", chunks[b"gAMA"])[0] / 100_000 if b"gAMA" in chunks else None
        chromaticities = (
            Chromaticities(*(value / 100_000 for value in struct.unpack(">8I", chunks[b"cHRM"])))
            if b"cHRM" in chunks
            else None
        )
        return rgb_profile(gamma, chromaticities)
    except (struct.error, ValueError):
        return b""


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
    for offset, kind, length_bytes in _chunks(content):
        if kind == b"IDAT":
            yield view[offset + 8 : offset + 8 + length_bytes]
