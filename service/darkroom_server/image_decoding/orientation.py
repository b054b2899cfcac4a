"""Which way up a picture is, from its EXIF or XMP.

The one tag is looked up in the first directory; a library would read everything that the directory
points at, which can be thousands of times the file.
"""

from __future__ import annotations

import re
import struct

UPRIGHT = 1
_ORIENTATION_TAG = 0x0112
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_FORMATS = {3: "H", 4: "I"}
_IN_XMP = re.compile(rb"tiff:Orientation(?:\s*=\s*[\"']|>\s*)([1-8])\b")
#: Where people's software writes it; the rest of a long XMP is history.
_XMP_BYTES = 1 << 20


def orientation(exif: bytes | None, xmp: bytes | None) -> int:
    """1 to 8 as EXIF numbers them, 1 (upright) when there is none that can be read."""
    found = _in_exif(exif or b"")
    if found is None and xmp:
        match = _IN_XMP.search(xmp[:_XMP_BYTES])
        found = None if match is None else int(match[1])
    return UPRIGHT if found is None else found


def _in_exif(exif: bytes) -> int | None:
    order = _BYTE_ORDERS.get(exif[:4])
    if order is None or len(exif) < 8:
        return None
    (start,) = struct.unpack_from(order + "I", exif, 4)
    if start + 2 > len(exif):
        return None
    (count,) = struct.unpack_from(order + "H", exif, start)
    for offset in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, value_count = struct.unpack_from(order + "HHI", exif, offset)
        if tag == _ORIENTATION_TAG and kind in _FORMATS and value_count == 1:
            (value,) = struct.unpack_from(order + _FORMATS[kind], exif, offset + 8)
            return value if 1 <= value <= 8 else UPRIGHT
    return None
