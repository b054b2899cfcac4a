"""Which picture of a request is read now: told before it is, for the reader may end of it."""

from __future__ import annotations

from collections.abc import Callable

_listeners: list[Callable[[str], None]] = []


def listen(listener: Callable[[str], None]) -> None:
    """Has every field told from now on; for the whole process."""
    _listeners.append(listener)


def begin_reading(field: str) -> None:
    """The field's picture is read from now on."""
    for listener in _listeners:
        listener(field)
