"""How a key is written: `dk_ID_SECRET`, the secret's last six characters being check digits.

By the prefix and the check digits a scanner for leaked secrets, and the server itself, recognise
a key without looking it up.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from dataclasses import dataclass, field

PREFIX = "dk"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_LENGTH = 10
#: 62 ** 43 is above 2 ** 256.
_SECRET_LENGTH = 43
_CHECK_LENGTH = 6
_KEY = re.compile(
    rf"{PREFIX}_([0-9A-Za-z]{{{_ID_LENGTH}}})_"
    rf"([0-9A-Za-z]{{{_SECRET_LENGTH}}})([0-9A-Za-z]{{{_CHECK_LENGTH}}})"
)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made; `text` is to be shown once and kept nowhere."""

    id: str
    text: str = field(repr=False)

    @property
    def sha256(self) -> bytes:
        """What is kept of it."""
        return digest_of(self.text)


def new_key() -> NewKey:
    """A key that nobody can guess."""
    key_id = _letters(_ID_LENGTH)
    body = f"{PREFIX}_{key_id}_{_letters(_SECRET_LENGTH)}"
    return NewKey(key_id, body + _check_digits(body))


def id_in(text: str) -> str | None:
    """The id part of a key; None for text that is no key, or has a character wrong."""
    match = _KEY.fullmatch(text)
    if match is None or _check_digits(text[:-_CHECK_LENGTH]) != match[3]:
        return None
    return match[1]


def digest_of(text: str) -> bytes:
    """The SHA-256 of a key."""
    return hashlib.sha256(text.encode()).digest()


def _letters(count: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(count))


def _check_digits(body: str) -> str:
    value, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECK_LENGTH):
        value, digit = divmod(value, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
