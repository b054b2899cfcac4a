"""Gives memory that the process has freed back to the system.

glibc keeps freed memory in the arena of each thread for as long as anything above it is in use;
after a load peak that is most of the peak. And calls that failed hold their requests by the frames
of their errors until Python's garbage collection runs, which happens while it works, not when it is
idle.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from collections.abc import Callable
from pathlib import Path

INTERVAL_S = 10.0
#: Less above the smallest size seen is not worth the walk through all arenas, some ms.
SLACK_BYTES = 32 << 20

_STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """Resident memory of the process; 0 where it is unknown."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def malloc_trim() -> Callable[[int], int] | None:
    """glibc's function; None with another C library."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


class Heap:
    """Trims when the process is larger than it has been."""

    def __init__(
        self,
        collect: Callable[[], int],
        trim: Callable[[int], int],
        resident: Callable[[], int],
    ) -> None:
        self._collect = collect
        self._trim = trim
        self._resident = resident
        self._smallest_bytes = resident()

    def trim(self) -> None:
        """To be called periodically; takes some ms, of any thread."""
        if self._resident() > self._smallest_bytes + SLACK_BYTES:
            self._collect()
            self._trim(0)
        self._smallest_bytes = min(self._smallest_bytes, self._resident())


async def keep_trimmed() -> None:
    """Trims periodically, and never returns unless that is not possible here."""
    trim = malloc_trim()
    if trim is None:
        return
    heap = Heap(gc.collect, trim, resident_bytes)
    while True:
        await asyncio.sleep(INTERVAL_S)
        await asyncio.to_thread(heap.trim)
