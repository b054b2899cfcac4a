"""Images inside JSON: base64 in any of the forms that clients write it."""

from __future__ import annotations

import binascii
import re

from darkroom_server.domain.errors import InvalidImage
from darkroom_server.gateway.base64_text import base64_bytes

_DATA_URL = re.compile(r"data:[^,]{0,256},", re.IGNORECASE)
_BASE64_MARK = re.compile(r";\s*base64\s*,$", re.IGNORECASE)
#: How pictures begin as text: as a data URL, or in base64 as PNG, JPEG or WebP. Prompts do not.
_BEGINNINGS = ("data:image", "iVBORw0KGgo", "/9j/", "UklGR")
#: How much is unescaped at once.
_PIECE_BYTES = 1 << 20


def begins_as_picture(text: str) -> bool:
    """Whether the text is plainly a picture."""
    return text.startswith(_BEGINNINGS)


def picture_bytes(value: bytes | str, field: str) -> bytes:
    """The file that the text stands for: base64, with or without a `data:` prefix, line breaks or
    padding, in the standard or the URL-safe alphabet; or a data URL whose bytes are escaped by `%`.

    Addresses are refused, for nothing is fetched. CPU-bound. Raises InvalidImage.
    """
    if isinstance(value, bytes):
        return value
    if value[:8].lower().startswith(("http:", "https:", "file:", "ftp:")):
        raise InvalidImage(field, "is an address, and none is fetched; send the file as base64")
    prefix = _DATA_URL.match(value)
    text = value[prefix.end() :] if prefix else value
    if "%" in text:
        unescaped = _unescaped(text)
        # Every file has bytes that must be escaped, so one without `%` is base64 unannounced.
        if prefix and not _BASE64_MARK.search(prefix[0]):
            return unescaped
        text = unescaped.decode("ascii", "replace")
    try:
        content = base64_bytes(text)
    except ValueError as error:
        raise InvalidImage(field, "is no base64") from error
    if not content:
        raise InvalidImage(field, "is no base64")
    return content


def _unescaped(text: str) -> bytes:
    """The bytes of a text some of which are written as `%` and two digits.

    The decoder of quoted printable does it in one pass, where the one for URLs makes an object for
    each escape, and there may be tens of millions.
    """
    content, found, at = text.encode(errors="replace"), bytearray(), 0
    while at < len(content):
        end = at + _PIECE_BYTES
        # No escape is cut through.
        cut = content.rfind(b"%", end - 2, end)
        end = cut if cut > at else end
        piece = content[at:end].replace(b"=", b"=3D").replace(b"%", b"=")
        found += binascii.a2b_qp(piece)
        at = end
    # The decoder takes a last one for the end of a line that goes on.
    return bytes(found) + b"%" * content.endswith(b"%")
