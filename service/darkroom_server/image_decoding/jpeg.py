"""JPEG files taken apart: their segments are counted, and what is not pixels is set aside."""

from __future__ import annotations

import re

from darkroom_server.image_decoding.parts import (
    MAX_PROFILE_BYTES,
    Parts,
    TooIntricate,
    check_section_count,
)

SIGNATURE = b"\xff\xd8\xff"
#: Every scan goes over all blocks of the picture again; encoders write about ten.
MAX_SCAN_COUNT = 100
#: Bytes between segments, which decoders skip one by one.
MAX_STRAY_BYTES = 1 << 16

_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_APP0, _APP1, _APP2, _APP14, _APP15 = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
_COMMENT = 0xFE
#: Markers without a length: TEM and SOI; restarts are within scans, and no match below.
_BARE = (0x01, 0xD8)
#: The next marker: neither a stuffed 0xFF, nor a fill byte, nor a restart.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_PROFILE = b"ICC_PROFILE\0"


def take_apart(content: bytes) -> Parts:
    """The parts of a file that begins as a JPEG; raises TooIntricate.

    Of a file with several pictures, such as a photograph with a depth map, only the first is left.
    What is broken is left to the decoder to find.
    """
    kept, offset = [content[:2]], 2
    section_count = scan_count = stray_bytes = 0
    exif = xmp = None
    profile_pieces: dict[int, bytes] = {}
    while (match := _MARKER.search(content, offset)) is not None:
        start, marker = match.start(), content[match.start() + 1]
        if scan_count:
            kept.append(content[offset:start])
        else:
            stray_bytes += start - offset
        section_count += 1
        _check(section_count, scan_count + (marker == _START_OF_SCAN), stray_bytes)
        end = _end(content, start, marker)
        body = content[start + 4 : end]
        if marker == _APP1 and body.startswith(_EXIF) and exif is None:
            exif = body[len(_EXIF) :]
        elif marker == _APP1 and body.startswith(_XMP) and xmp is None:
            xmp = body[len(_XMP) :]
        elif marker == _APP2 and body.startswith(_PROFILE) and len(body) > len(_PROFILE) + 2:
            profile_pieces.setdefault(body[len(_PROFILE)], body[len(_PROFILE) + 1 :])
        elif not _is_aside(marker):
            kept.append(content[start:end])
        scan_count += marker == _START_OF_SCAN
        offset = end
        if marker == _END_OF_IMAGE:
            break
    else:
        kept.append(content[offset:])
    return Parts(pixels=b"".join(kept), exif=exif, xmp=xmp, profile=_profile(profile_pieces))


def _is_aside(marker: int) -> bool:
    """Whether decoding needs nothing of the segment; APP0 and APP14 describe its colours."""
    is_app = _APP0 < marker <= _APP15 and marker != _APP14
    return is_app or marker == _COMMENT


def _end(content: bytes, start: int, marker: int) -> int:
    if marker in _BARE or marker == _END_OF_IMAGE:
        return start + 2
    if start + 4 > len(content):
        return len(content)
    length_bytes = int.from_bytes(content[start + 2 : start + 4], "big")
    return min(start + 2 + max(2, length_bytes), len(content))


def _check(section_count: int, scan_count: int, stray_bytes: int) -> None:
    check_section_count(section_count, "segments")
    if scan_count > MAX_SCAN_COUNT:
        raise TooIntricate(f"the file has more than the {MAX_SCAN_COUNT} scans that are taken")
    if stray_bytes > MAX_STRAY_BYTES:
        raise TooIntricate(f"more than {MAX_STRAY_BYTES} bytes lie between the file's segments")


def _profile(pieces: dict[int, bytes]) -> bytes | None:
    """The profile, from pieces by their number, each beginning with how many there are."""
    if not pieces:
        return None
    count = next(iter(pieces.values()))[0]
    if sorted(pieces) != list(range(1, count + 1)):
        return b""
    profile = b"".join(pieces[number][1:] for number in sorted(pieces))
    return profile if len(profile) <= MAX_PROFILE_BYTES else b""
