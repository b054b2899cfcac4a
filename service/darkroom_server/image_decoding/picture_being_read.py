"""Which picture of a request is being decoded: noted before, since the decoder may crash."""

from __future__ import annotations

from collections.abc import Callable

_listeners: list[Callable[[str], None]] = []


def listen(listener: Callable[[str], None]) -> None:
    """Calls the function with every field from now on; for the whole process."""
    _listeners.append(listener)


def begin_reading(field: str) -> None:
    """The field's picture is read from now on."""
    for listener in _listeners:
        listener(field)
