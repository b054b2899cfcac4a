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


def configure_logs() -> None:
    """Sets structlog up from the environment; safe to call more than once in a process."""
    level = logging.getLevelNamesMapping().get(
        os.environ.get(LOG_LEVEL_VARIABLE, "info").upper(), logging.INFO
    )
    render: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if os.environ.get(LOG_FORMAT_VARIABLE, "text") == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # One write a line: the lines of several processes must not run into each other.
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Lossy(sys.stderr))),
        cache_logger_on_first_use=True,
    )


def logs_prompts() -> bool:
    """Whether the access line of a request may have what its caller wrote."""
    return os.environ.get(LOG_PROMPTS_VARIABLE, "") == "true"


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
