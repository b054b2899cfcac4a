"""Reads `config.pbtxt`, the text form of `darkroom.v1.ModelConfig`, and reports its errors."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from darkroom.v1 import model_config_pb2
from darkroom_server.domain.problems import Position, ProblemLog, quoted
from darkroom_server.model_config.config_settings import settings_of
from darkroom_server.model_config.config_source import ConfigSource, FieldUse, scan_config
from darkroom_server.model_config.settings import ModelSettings

CONFIG_NAME = "config.pbtxt"
MAX_CONFIG_BYTES = 1 << 16

_TYPE_NAMES = {
    FieldDescriptor.CPPTYPE_INT32: "a whole number",
    FieldDescriptor.CPPTYPE_INT64: "a whole number",
    FieldDescriptor.CPPTYPE_UINT32: "a whole number",
    FieldDescriptor.CPPTYPE_UINT64: "a whole number",
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
    FieldDescriptor.CPPTYPE_STRING: "text in quotes",
    FieldDescriptor.CPPTYPE_MESSAGE: "a group of fields in braces",
}


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A config that could be read: its settings, and its text for pointing at fields."""

    settings: ModelSettings
    source: ConfigSource
    shown: str

    def error(self, problems: ProblemLog, message: str, *path: str, index: int = 0) -> None:
        """Adds an error at a field, or at the file as a whole when the field is not written."""
        at, excerpt = self._point(path, index)
        problems.error(self.shown, message, at=at, excerpt=excerpt)

    def warning(self, problems: ProblemLog, message: str, *path: str, index: int = 0) -> None:
        """Adds a warning, placed like an error."""
        at, excerpt = self._point(path, index)
        problems.warning(self.shown, message, at=at, excerpt=excerpt)

    def label_index(self, field: str, label: str) -> int:
        """Which of the file's uses of a map sets a label; 0 when it is written with escapes."""
        keys = [use.value for use in self.source.uses if use.path == (field, "key")]
        return next((i for i, key in enumerate(keys) if key and key[1:-1] == label), 0)

    def _point(self, path: tuple[str, ...], index: int) -> tuple[Position | None, str]:
        use = self.source.find(*path, index=index)
        if use is None:
            return None, ""
        at = use.at if use.value is None else use.value_at
        return at, self.source.excerpt(at)


def did_you_mean(word: str, known: tuple[str, ...]) -> str:
    """`; did you mean 'x'?` for the nearest known word, or nothing."""
    nearest = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {quoted(nearest[0])}?" if nearest else ""


def read_config(content: bytes, *, shown: str, problems: ProblemLog) -> ConfigFile | None:
    """The config in a file's bytes, or None with its problems; `shown` names the file in them."""
    text = _decode(content, shown, problems)
    if text is None:
        return None
    source = scan_config(text)
    before = len(problems.problems)
    _check_schema(source, shown, problems)
    message = model_config_pb2.ModelConfig()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        _report_parse_error(error, source, shown, problems, before)
    except ValueError as error:  # raised for an enum number beyond 32 bits, with no position
        if len(problems.problems) == before:
            problems.error(shown, str(error))
    if len(problems.problems) > before:
        return None
    if not source.uses:
        problems.warning(shown, "is empty: everything is derived from the pipeline; remove it")
    return ConfigFile(settings_of(message, source), source, shown)


def _decode(content: bytes, shown: str, problems: ProblemLog) -> str | None:
    if len(content) > MAX_CONFIG_BYTES:
        problems.error(shown, f"is larger than {MAX_CONFIG_BYTES} bytes")
        return None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
        at = Position(before.count("\n") + 1, len(before) - before.rfind("\n"))
        problems.error(shown, f"is not UTF-8 text: byte 0x{content[error.start]:02x}", at=at)
        return None
    if text.startswith("\ufeff"):
        problems.error(shown, "begins with a byte order mark: save it without", at=Position(1, 1))
        return None
    return text


def _check_schema(source: ConfigSource, shown: str, problems: ProblemLog) -> None:
    """Finds unknown fields, unknown enum values and duplicates, all of them at once."""
    seen: set[tuple[int, str]] = set()
    for use in source.uses:
        parent = _message_at(use.path[:-1])
        if parent is None:
            continue
        name = use.path[-1]
        field = parent.fields_by_name.get(name)
        if field is None:
            known = tuple(parent.fields_by_name)
            problems.error(
                shown,
                f"unknown field {quoted(name)}{did_you_mean(name, known)} "
                f"(known here: {', '.join(known)})",
                at=use.at,
                excerpt=source.excerpt(use.at),
            )
            continue
        if not field.is_repeated and (use.scope, name) in seen:
            problems.error(
                shown, f"'{name}' is set twice", at=use.at, excerpt=source.excerpt(use.at)
            )
        seen.add((use.scope, name))
        _check_enum(use, field, source, shown, problems)


def _check_enum(
    use: FieldUse, field: FieldDescriptor, source: ConfigSource, shown: str, problems: ProblemLog
) -> None:
    if field.enum_type is None or use.value is None:
        return
    values = {name: str(value.number) for name, value in field.enum_type.values_by_name.items()}
    allowed = tuple(name for name, number in values.items() if number != "0")
    if field.is_repeated:
        values = {name: values[name] for name in allowed}
    if use.value in values or use.value in values.values():
        return
    problems.error(
        shown,
        f"'{use.path[-1]}' cannot be {quoted(use.value)}"
        f"{did_you_mean(use.value, allowed)} (allowed: {', '.join(allowed)})",
        at=use.value_at,
        excerpt=source.excerpt(use.value_at),
    )


def _message_at(path: tuple[str, ...]) -> Descriptor | None:
    """The message type at a path, None for a path that the schema does not have."""
    message: Descriptor | None = model_config_pb2.ModelConfig.DESCRIPTOR
    for name in path:
        field = message.fields_by_name.get(name) if message is not None else None
        message = field.message_type if field is not None else None
    return message


def _report_parse_error(
    error: text_format.ParseError,
    source: ConfigSource,
    shown: str,
    problems: ProblemLog,
    before: int,
) -> None:
    """Adds what the parser says, unless a better message about the same line is there already."""
    at = Position(error.GetLine() or 1, error.GetColumn() or 1)
    reported = {problem.at.line for problem in problems.problems[before:] if problem.at}
    if at.line in reported:
        return
    lines = source.text.split("\n")
    line = lines[at.line - 1] if at.line <= len(lines) else ""
    message = str(error).removeprefix(f"{at.line}:{at.column} : ")
    # The parser quotes the line it has come to: the one in error, or an empty one at the end.
    message = message.removeprefix(f"'{line}': ").removeprefix("'': ")
    for use in source.uses:
        parent = _message_at(use.path[:-1])
        field = parent.fields_by_name.get(use.path[-1]) if parent is not None else None
        if use.value_at != at or field is None or field.cpp_type not in _TYPE_NAMES:
            continue
        # A brace missing at the end of the file is reported at the last value, which is right.
        if use.value is None or "}" not in message:
            kind = _TYPE_NAMES[field.cpp_type]
            written = f", not {quoted(use.value)}" if use.value is not None else ""
            message = f"'{field.name}' takes {kind}{written} ({message.rstrip('.')})"
    problems.error(shown, message, at=at, excerpt=source.excerpt(at))
