"""`darkroom` with leaks put in on purpose: what the soak's checks must find.

Each version that is let go leaves memory, an open file, and work for every later request behind.
"""

from __future__ import annotations

import os
import time
from typing import Any

from darkroom_server.cli.main import main
from darkroom_server.engine.engine import Engine
from darkroom_server.engine.manager import Manager

LEAK_BYTES = 2 << 20
LEAK_S = 0.0002

_leaks: list[object] = []
_let_go, _open = Manager._let_go, Engine.open


def _leaking_let_go(manager: Manager, *arguments: Any) -> None:
    _leaks.append((b"\1" * LEAK_BYTES, os.open(os.devnull, os.O_RDONLY)))
    _let_go(manager, *arguments)


def _slower_open(engine: Engine, *arguments: Any, **options: Any) -> Any:
    time.sleep(LEAK_S * len(_leaks))
    return _open(engine, *arguments, **options)


if __name__ == "__main__":
    Manager._let_go = _leaking_let_go  # type: ignore[method-assign]
    Engine.open = _slower_open  # type: ignore[method-assign]
    main()
