"""Folders in each other, deeper than a path may be long or Python may recurse."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def nest(folder: Path, depth: int, name: str = "d") -> None:
    """Makes so many, the first in `folder`."""
    at = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=at)
        inner = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)


def remove(folder: Path) -> None:
    """Removes a folder with all that is in it, which neither shutil nor pytest can."""
    subprocess.run(["rm", "-rf", str(folder)], check=True)
