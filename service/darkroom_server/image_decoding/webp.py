"""WebP files taken apart: their chunks are counted, and what is not pixels is looked up."""

from __future__ import annotations

import struct

from darkroom_server.image_decoding.parts import MAX_PROFILE_BYTES, Parts, check_section_count

_HEADER_BYTES = 12
_EXIF_PREFIX = b"Exif\0\0"


def is_webp(content: bytes) -> bool:
    """Whether the first bytes say so."""
    return content[:4] == b"RIFF" and content[8:12] == b"WEBP"


def canvas_pixel_count(content: bytes) -> int:
    """Pixels that a decoder will make room for as soon as it is opened; 0 where nothing says."""
    kind = content[12:16]
    if kind == b"VP8X" and len(content) >= 30:
        width_px = int.from_bytes(content[24:27], "little") + 1
        height_px = int.from_bytes(content[27:30], "little") + 1
        return width_px * height_px
    if kind == b"VP8L" and len(content) >= 25:
        bits = int.from_bytes(content[21:25], "little")
        return ((bits & 0x3FFF) + 1) * ((bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 " and len(content) >= 30:
        width_px, height_px = struct.unpack_from("<HH", content, 26)
        return int(width_px & 0x3FFF) * int(height_px & 0x3FFF)
    return 0


def take_apart(content: bytes) -> Parts:
    """The parts of a file that begins as a WebP; raises TooIntricate.

    What is broken is left to the decoder to find.
    """
    exif = xmp = profile = None
    count = frame_count = 0
    offset = _HEADER_BYTES
    while offset + 8 <= len(content):
        count += 1
        check_section_count(count, "chunks")
        kind, length_bytes = struct.unpack_from("<4sI", content, offset)
        frame_count += kind == b"ANMF"
        if kind in (b"EXIF", b"XMP ", b"ICCP"):
            body = content[offset + 8 : offset + 8 + length_bytes]
            if kind == b"EXIF" and exif is None:
                exif = body.removeprefix(_EXIF_PREFIX)
            elif kind == b"XMP " and xmp is None:
                xmp = body
            elif kind == b"ICCP" and profile is None:
                profile = body if length_bytes <= MAX_PROFILE_BYTES else b""
        offset += 8 + length_bytes + (length_bytes & 1)
    return Parts(
        pixels=content, exif=exif, xmp=xmp, profile=profile, frame_count=max(1, frame_count)
    )
