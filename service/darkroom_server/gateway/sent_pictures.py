"""Which pictures a body brings: one, or several in an order, by whatever names."""

from __future__ import annotations

import re
from typing import Any, Final

from darkroom_server.domain.errors import InvalidImage

#: A picture as it came: a file, or the text that stands for one.
Sent = bytes | str

#: Some services number the pictures of an edit: `input_image`, `input_image_2`, or from 1 on.
_NUMBERED: Final = re.compile(r"((?:input_|reference_)?image(?:_url)?)_?(\d{1,2})", re.ASCII)


def pictures_in(value: Any, name: str) -> tuple[Sent, ...]:
    """The pictures that a value is, or has in it: `{"url": …}` and lists are such values, too.

    Raises InvalidImage.
    """
    found: list[Sent] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            inner = one.get("url") or one.get("image_url")
            if inner is None:
                raise InvalidImage(name, "has no url; send the file as base64")
            waiting.append(inner)
        elif isinstance(one, list):
            waiting += reversed(one)
        elif isinstance(one, bytes | str):
            found.append(one)
        elif one is not None:
            raise InvalidImage(name, "is no base64 text")
    return tuple(found)


def one_picture(value: Any, name: str) -> Sent | None:
    """The same of what may be one only; None where a list is empty. Raises InvalidImage."""
    found = pictures_in(value, name)
    if len(found) > 1:
        raise InvalidImage(name, f"{len(found)} images were sent, and one is taken")
    return found[0] if found else None


def number_of(name: str) -> int | None:
    """The place that a name gives a picture, from 1 on; None of a name without one."""
    match = _NUMBERED.fullmatch(name)
    return None if match is None else int(match[2])
