"""Reads a JSON object from bytes that nobody vouches for."""

from __future__ import annotations

import json
from typing import Final

from darkroom_server.domain.problems import Position, quoted

#: Commas, colons and brackets in a text. Each value takes a hundred times its two bytes once it is
#: read, so the bytes of a file bound nothing. An index of a hundred thousand tensors has a fifth of
#: these.
MAX_MARK_COUNT: Final = 1_000_000
_MARKS = (b",", b":", b"[", b"{")


class BadJson(ValueError):
    """The bytes are not a JSON object; the message says why, `at` where, when that is known."""

    def __init__(self, message: str, at: Position | None = None) -> None:
        super().__init__(message)
        self.at = at


def parse_object(content: bytes, *, is_strict: bool = False) -> dict[str, object]:
    """The JSON object in UTF-8 text; raises BadJson, before it is read where it is too much.

    NaN and infinities are taken unless `is_strict`: no JSON has them, but Python writes them, and
    so do the libraries that save a pipeline's settings.
    """
    if sum(content.count(mark) for mark in _MARKS) > MAX_MARK_COUNT:
        raise BadJson(f"it has more than {MAX_MARK_COUNT} commas, colons and brackets")
    try:
        value = json.loads(
            content.decode("utf-8"), parse_constant=_refuse_constant if is_strict else float
        )
    except UnicodeDecodeError as error:
        raise BadJson("it is not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise BadJson(error.msg, Position(error.lineno, error.colno)) from error
    except RecursionError as error:
        raise BadJson("it is nested too deeply") from error
    except ValueError as error:  # an integer of thousands of digits, NaN
        raise BadJson(str(error)) from error
    if not isinstance(value, dict):
        raise BadJson("it holds no JSON object")
    return value


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{quoted(name)} is not a JSON value")
