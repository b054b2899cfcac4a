"""A library's message of a failure, for the caller that loads the model: one line, no paths."""

from __future__ import annotations

import re

#: Characters that a status message has room for.
_MAX_CHARS = 400
_PATH = re.compile(r"(?<![\w.:/])(?:/[\w.@+-]+){2,}/?")


def own_words(error: BaseException) -> str:
    """The kind of the first cause and its words; those of the error itself where it has none."""
    cause = error.__cause__ or error
    text = _PATH.sub("…", " ".join(str(cause).split()))
    shown = text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…"
    if cause is error and error.__class__.__module__.startswith("darkroom_server"):
        return shown
    return f"{type(cause).__name__}: {shown}" if shown else type(cause).__name__
