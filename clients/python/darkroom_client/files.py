"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file over what is there, of which nothing is lost when that fails.

    A link stays a link, a pipe or a device is written to. Raises OSError, which names the file.
    """
    target = path.resolve()
    # In a folder that is closed a file may be open for all that.
    is_replaced = (target.is_file() or not target.exists()) and os.access(target.parent, os.W_OK)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}") if is_replaced else target
    try:
        try:
            part.write_bytes(content)
            if is_replaced:
                if target.exists():
                    part.chmod(target.stat().st_mode & 0o777)
                part.replace(target)
        finally:
            if is_replaced:
                part.unlink(missing_ok=True)
    except OSError as error:
        # What fails while it is written does not say where.
        raise OSError(error.errno, error.strerror, str(path)) from error
