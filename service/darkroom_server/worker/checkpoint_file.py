"""Memory of the server's in which a worker keeps how far its images are, and which outlives it.

Both sides hold one file without a name: what the system gives for the purpose is no part of
/dev/shm, which containers keep small. It is written to and read from rather than mapped, so that
lack of memory is an error and not a signal. Its pages are taken as they are first written.
"""

from __future__ import annotations

import errno
import multiprocessing.reduction
import os
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

#: Unit of allocation, so that no room is lost between states of different lengths.
BLOCK_BYTES = 64 << 10


class CheckpointFile:
    """Blocks of memory. Pickled only on its way to a process that is being started."""

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._descriptor = descriptor
        self.size_bytes = size_bytes

    @classmethod
    def create(cls, size_bytes: int) -> CheckpointFile:
        """An empty one. Raises OSError where the process may open no more files."""
        if sys.platform == "linux":
            return cls(os.memfd_create("darkroom-checkpoints"), size_bytes)
        with tempfile.TemporaryFile() as file:
            return cls(os.dup(file.fileno()), size_bytes)

    @property
    def block_count(self) -> int:
        """Blocks that it has."""
        return self.size_bytes // BLOCK_BYTES

    def write(self, blocks: Sequence[int], data: bytes) -> None:
        """Puts data into blocks, of which there are enough. Raises OSError when memory is short."""
        view = memoryview(data)
        for place, block in enumerate(blocks):
            part = view[place * BLOCK_BYTES : (place + 1) * BLOCK_BYTES]
            if os.pwrite(self._descriptor, part, block * BLOCK_BYTES) != len(part):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def read(self, blocks: Sequence[int], byte_count: int) -> bytes:
        """What was put into blocks."""
        parts = [os.pread(self._descriptor, BLOCK_BYTES, block * BLOCK_BYTES) for block in blocks]
        return b"".join(parts)[:byte_count]

    def close(self) -> None:
        """Gives this side's hold of it up; with the last one the memory goes."""
        os.close(self._descriptor)

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (multiprocessing.reduction.DupFd(self._descriptor), self.size_bytes)


def _received(sent: Any, size_bytes: int) -> CheckpointFile:
    return CheckpointFile(sent.detach(), size_bytes)
