"""`darkroom` of which every request leaves memory and an open file behind: a leak to be found."""

from __future__ import annotations

import os
from typing import Any

from darkroom_server.cli.main import main
from darkroom_server.engine.engine import Engine

LEAK_BYTES, FILES_EVERY = 128 << 10, 16

_leaks: list[object] = []
_open = Engine.open


def _leaking_open(engine: Engine, *arguments: Any, **options: Any) -> Any:
    _leaks.append(b"\1" * LEAK_BYTES)
    if len(_leaks) % FILES_EVERY == 0:
        _leaks.append(os.open(os.devnull, os.O_RDONLY))
    return _open(engine, *arguments, **options)


if __name__ == "__main__":
    Engine.open = _leaking_open  # type: ignore[method-assign]
    main()
