"""Files of keys: in a thread of their own, one process at a time."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, ParamSpec, TypeVar

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

#: Reads and writes keys and what they have used, which waits for nothing else that takes long.
_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="key-files")


async def in_file_thread(
    work: Callable[_Given, _Result], *args: _Given.args, **named: _Given.kwargs
) -> _Result:
    """What the work returns, in the thread for files of keys."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_THREAD, lambda: work(*args, **named))


def hold_lock(path: Path, *, waits: bool) -> IO[str]:
    """Holds the lock beside the file until what is returned is closed, or the process ends.

    Raises BlockingIOError where another holds it and this does not wait, OSError where the lock's
    file cannot be made.
    """
    file = path.with_name(f"{path.name}.lock").open("a", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except OSError:
        file.close()
        raise
    return file
