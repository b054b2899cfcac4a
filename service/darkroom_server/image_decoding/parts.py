"""An image file taken apart: what a decoder is given, and what the file says besides pixels.

A walk over a file's structure comes before any decoder, so that work is bounded by what is counted
here: thousands of scans or a million chunks cost a decoder minutes, whatever the pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

#: More chunks or segments than any encoder writes for the bytes that are taken.
MAX_SECTION_COUNT = 20_000
#: A profile of a press is 2 MiB; the largest that people use, 4.
MAX_PROFILE_BYTES = 4 << 20


class TooIntricate(Exception):
    """The file has more parts than any encoder writes; the message says which, for the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A file's parts. `pixels` is a file that holds nothing else than what decoding needs.

    `exif` is a TIFF structure, `xmp` is XML, `profile` is an ICC profile: each is None where there
    is none, and empty where it is there but broken or too large.
    """

    pixels: bytes
    exif: bytes | None = None
    xmp: bytes | None = None
    profile: bytes | None = None
    frame_count: int = 1


def check_section_count(count: int, name: str) -> None:
    """Raises TooIntricate."""
    if count > MAX_SECTION_COUNT:
        raise TooIntricate(f"the file has more than the {MAX_SECTION_COUNT} {name} that are taken")
