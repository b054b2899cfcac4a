"""Files that are replaced whole: a reader, and a crash, sees the old content or the new."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, ParamSpec, TypeVar

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

#: For its owner's eyes only, and as the user's umask has it.
PRIVATE, PUBLIC = 0o600, 0o666

#: Reads and writes keys and what they have used, which waits for nothing else that takes long.
_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="key-files")


async def in_file_thread(
    work: Callable[_Given, _Result], *args: _Given.args, **named: _Given.kwargs
) -> _Result:
    """What the work returns, in the thread for files of keys."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_THREAD, lambda: work(*args, **named))


def replace_file(path: Path, content: str | bytes, *, mode: int = PRIVATE) -> None:
    """Writes the file, with `mode` unless it was there with another; a link stays a link.

    Raises OSError, which names the file; the old content is then still there.
    """
    target = path.resolve()
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    with naming(path):
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                if target.exists():
                    os.fchmod(file.fileno(), target.stat().st_mode & 0o777)
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Makes every OSError of the block one of the file: what fails while it is written does not
    say where.
    """
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


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
