"""Reads a JSON object from bytes that nobody vouches for."""

from __future__ import annotations

import json

from darkroom_server.models.problems import Position, quoted


class BadJson(ValueError):
    """The bytes are not a JSON object; the message says why, `at` where, when that is known."""

    def __init__(self, message: str, at: Position | None = None) -> None:
        super().__init__(message)
        self.at = at


def parse_object(content: bytes, *, allows_infinity: bool = False) -> dict[str, object]:
    """The JSON object in UTF-8 text; raises BadJson.

    With `allows_infinity`, Infinity, -Infinity and NaN are numbers, as Python's own json writes.
    """
    constant = float if allows_infinity else _refuse_constant
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=constant)
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
