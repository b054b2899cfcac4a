"""Files that are replaced whole: a reader, and a crash, sees the old content or the new."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO


def replace_file(path: Path, text: str) -> None:
    """Writes the file, for its owner's eyes only unless it was there with another mode.

    Raises OSError; the old content is then still there.
    """
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(part).replace(path)
    finally:
        Path(part).unlink(missing_ok=True)


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
