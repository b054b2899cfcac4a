"""Structured logs: one line an event on stderr, as text for people or as JSON for machines."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import TextIO, cast

import structlog

#: `json` or `text`; read by the workers too, which inherit the environment.
LOG_FORMAT_VARIABLE = "DARKROOM_LOG_FORMAT"
LOG_LEVEL_VARIABLE = "DARKROOM_LOG_LEVEL"
LOG_PROMPTS_VARIABLE = "DARKROOM_LOG_PROMPTS"


#: Below which nothing is written by this process.
_level = logging.INFO


def log_level() -> str:
    """The lowest level that this process writes, in small letters."""
    return logging.getLevelName(_level).lower()


def set_log_level(name: str) -> None:
    """Changes it from now on; workers that run keep theirs."""
    global _level
    _level = logging.getLevelNamesMapping()[name.upper()]


def _drop_lower(
    _logger: object, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    if logging.getLevelNamesMapping().get(method.upper(), logging.CRITICAL) < _level:
        raise structlog.DropEvent
    return event


def configure_logs() -> None:
    """Sets structlog up from the environment; safe to call more than once in a process."""
    name = os.environ.get(LOG_LEVEL_VARIABLE, "info").upper()
    set_log_level(name if name in logging.getLevelNamesMapping() else "info")
    render: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if os.environ.get(LOG_FORMAT_VARIABLE, "text") == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            # The first, so that what is not written costs little; loggers outlive a level.
            _drop_lower,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        # One write a line: the lines of several processes must not run into each other.
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Lossy(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [one for one in root.handlers if not isinstance(one, _OfLibraries)]
    root.addHandler(_OfLibraries(logging.WARNING))


def logs_prompts() -> bool:
    """Whether the access line of a request may have what its caller wrote."""
    return os.environ.get(LOG_PROMPTS_VARIABLE, "") == "true"


class _OfLibraries(logging.Handler):
    """What libraries warn of, in lines like all others; Python's own handler writes bare text."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = str(record.msg)
        log = structlog.get_logger(record.name)
        write = log.error if record.levelno >= logging.ERROR else log.warning
        exc_info = record.exc_info or None
        write("a library's message", library=record.name, message=message, exc_info=exc_info)


class _Lossy:
    """Writes lines while anybody reads them: a server goes on, and stops, when nobody does."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        """Writes a line, or nothing."""
        with contextlib.suppress(OSError):
            self._stream.write(line)

    def flush(self) -> None:
        """Flushes what was written, or nothing."""
        with contextlib.suppress(OSError):
            self._stream.flush()
