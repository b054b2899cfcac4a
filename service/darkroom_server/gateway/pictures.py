"""Images inside JSON: base64 in any of the forms that clients write it."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from darkroom_server.domain.errors import InvalidImage

_DATA_URL = re.compile(r"data:[^,]{0,256},", re.IGNORECASE)


def picture_bytes(value: Any, field: str) -> bytes:
    """The file that the text stands for: base64, with or without a `data:` prefix, line breaks or
    padding, in the standard or the URL-safe alphabet.

    Addresses are refused, for nothing is fetched. CPU-bound. Raises InvalidImage.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, list) and len(value) == 1:
        [value] = value
    if isinstance(value, dict):
        value = value.get("url") or value.get("image_url")
    if not isinstance(value, str):
        raise InvalidImage(field, "is no base64 text")
    if value[:8].lower().startswith(("http:", "https:", "file:", "ftp:")):
        raise InvalidImage(field, "is an address, and none is fetched; send the file as base64")
    prefix = _DATA_URL.match(value)
    text = "".join((value[prefix.end() :] if prefix else value).split()).rstrip("=")
    text = text.replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidImage(field, "is no base64") from error
