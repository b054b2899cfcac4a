"""Files that are kept: replaced whole, so that a reader, and a crash, sees the old or the new."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

#: For its owner's eyes only, and as the user's umask has it.
PRIVATE, PUBLIC = 0o600, 0o666


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
