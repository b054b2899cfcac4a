"""Base64 in texts that callers send, in time and memory that its length alone decides."""

from __future__ import annotations

import binascii

#: The URL-safe alphabet in terms of the standard one.
_STANDARD = bytes.maketrans(b"-_", b"+/")
_SPACE = b" \t\r\n\v\f"


def base64_bytes(text: str) -> bytes:
    """What the text stands for, in either alphabet, with or without line breaks and padding.

    CPU-bound; raises ValueError. Each step is one pass: to take line breaks out one by one makes an
    object for each, and a text may be nothing but those.
    """
    packed = text.encode("ascii").translate(_STANDARD, _SPACE).rstrip(b"=")
    return binascii.a2b_base64(packed + b"=" * (-len(packed) % 4), strict_mode=True)
