"""Where each field of a text-format file is written.

The protobuf parser reports the position of a syntax error only. This scanner finds the position of
every field, so that a check of a value can point at it. It knows no schema and stops silently
where the text stops making sense: the real parser then says why.
"""

from __future__ import annotations

import contextlib
import re
from bisect import bisect_right
from dataclasses import dataclass

from darkroom_server.domain.problems import Position, printable

_TOKEN = re.compile(
    r"""
    (?P<blank>(?:\s|\#[^\n]*)+)
  | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
  | (?P<word>[\w.+-]+)
  | (?P<mark>[{}<>\[\]:;,])
    """,
    re.VERBOSE,
)
_MAX_DEPTH = 32
_EXCERPT_CHARS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldUse:
    """One value of a field as written.

    `path` leads from the outermost message; `scope` distinguishes the messages it may be in;
    `value` is the text of a scalar, None for a message.
    """

    path: tuple[str, ...]
    scope: int
    at: Position
    value_at: Position
    value: str | None


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """A file's text and the fields in it, in the order they are written."""

    text: str
    uses: tuple[FieldUse, ...]

    def find(self, *path: str, index: int = 0) -> FieldUse | None:
        """The use number `index` of a field, or None."""
        uses = [use for use in self.uses if use.path == path]
        return uses[index] if index < len(uses) else None

    def excerpt(self, at: Position) -> str:
        """The line with a caret below the column: two lines, or empty for a blank line."""
        lines = self.text.split("\n")
        if not 1 <= at.line <= len(lines) or not lines[at.line - 1].strip():
            return ""
        line = lines[at.line - 1].rstrip()
        start = max(0, at.column - 1 - _EXCERPT_CHARS // 2)
        before = printable(line[start : at.column - 1].replace("\t", " "))
        after = printable(line[at.column - 1 : start + _EXCERPT_CHARS].replace("\t", " "))
        return f"{before}{after}\n{' ' * len(before)}^"


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: Position


class _Unreadable(Exception):
    """The text stops making sense here."""


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._line_starts = [0, *(i + 1 for i, char in enumerate(text) if char == "\n")]
        self._offset = 0
        self._scope_count = 0
        self.uses: list[FieldUse] = []

    def scan_message(self, path: tuple[str, ...], closing: str) -> None:
        scope = self._scope_count
        self._scope_count += 1
        if len(path) > _MAX_DEPTH:
            raise _Unreadable
        while (token := self._next()) is not None:
            if token.text == closing:
                return
            if token.kind == "word":
                self._scan_field((*path, token.text), scope, token.at)
            elif token.text not in (",", ";"):
                raise _Unreadable
        if closing:
            raise _Unreadable

    def _scan_field(self, path: tuple[str, ...], scope: int, at: Position) -> None:
        token = self._take()
        if token.text == ":":
            token = self._take()
        if token.text != "[":
            self._scan_value(path, scope, at, token)
            return
        token = self._take()
        while token.text != "]":
            if token.text != ",":
                self._scan_value(path, scope, at, token)
            token = self._take()

    def _scan_value(self, path: tuple[str, ...], scope: int, at: Position, token: _Token) -> None:
        is_message = token.text in ("{", "<")
        if not is_message and token.kind == "mark":
            raise _Unreadable
        self.uses.append(
            FieldUse(
                path=path,
                scope=scope,
                at=at,
                value_at=token.at,
                value=None if is_message else token.text,
            )
        )
        if is_message:
            self.scan_message(path, "}" if token.text == "{" else ">")
        elif token.kind == "string":
            self._skip_string_parts()

    def _skip_string_parts(self) -> None:
        while True:
            offset = self._offset
            token = self._next()
            if token is None or token.kind != "string":
                self._offset = offset
                return

    def _take(self) -> _Token:
        token = self._next()
        if token is None:
            raise _Unreadable
        return token

    def _next(self) -> _Token | None:
        while self._offset < len(self._text):
            match = _TOKEN.match(self._text, self._offset)
            if match is None or match.lastgroup is None:
                raise _Unreadable
            start, self._offset = self._offset, match.end()
            if match.lastgroup != "blank":
                line = bisect_right(self._line_starts, start)
                at = Position(line, start - self._line_starts[line - 1] + 1)
                return _Token(match.lastgroup, match.group(), at)
        return None


def scan_config(text: str) -> ConfigSource:
    """Finds the fields of a text-format message, up to where it can be understood."""
    scanner = _Scanner(text)
    with contextlib.suppress(_Unreadable):
        scanner.scan_message((), "")
    return ConfigSource(text, tuple(scanner.uses))
