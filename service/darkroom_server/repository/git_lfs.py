"""Whether a file is a pointer that Git LFS leaves in place of the file itself.

A pointer is a text of at most 1024 bytes that begins with its version
(https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

POINTER_PROBLEM: Final = (
    "is a Git LFS pointer, not the file itself: run `git lfs pull` where it was cloned, and copy "
    "it again"
)
_MAX_POINTER_BYTES = 1024
#: The second is what the program's first versions wrote.
_BEGINNINGS = (
    b"version https://git-lfs.github.com/spec/",
    b"version https://hawser.github.com/spec/",
)


def is_pointer(content: bytes) -> bool:
    """Whether a file's content is a pointer."""
    return len(content) <= _MAX_POINTER_BYTES and content.startswith(_BEGINNINGS)


def is_pointer_file(path: Path, size_bytes: int) -> bool:
    """Whether a file is a pointer; only a small one is read. Blocking; raises OSError."""
    return size_bytes <= _MAX_POINTER_BYTES and is_pointer(path.read_bytes())
