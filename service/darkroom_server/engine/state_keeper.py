"""Reads and writes the state file; whatever becomes of it, the server goes on. Loop-bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from darkroom_server.lifecycle.state_file import BadStateFile, SavedState, StateFile

log = structlog.get_logger(__name__)


class StateKeeper:
    """The state file, or none."""

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else StateFile(path)
        self._writing = asyncio.Lock()

    async def read(self) -> SavedState:
        """What was saved last; a file without a valid state is logged and renamed.

        Raises OSError for one that is there and cannot be read: starting without it would lose it.
        """
        if self._file is None:
            return SavedState()
        try:
            return await asyncio.to_thread(self._file.read)
        except BadStateFile as error:
            aside = await asyncio.to_thread(self._file.set_aside)
            log.error(
                "state file is broken; the server starts without it",
                file=str(self._file.path),
                problem=str(error),
                kept_as=str(aside),
            )
            return SavedState()

    async def save(self, state: Callable[[], SavedState]) -> None:
        """Writes the state as it is when its turn comes; what is written last is the newest."""
        if self._file is None:
            return
        async with self._writing:
            try:
                await asyncio.to_thread(self._file.write, state())
            except OSError as error:
                # What was asked for is done all the same; only a restart will not know of it.
                log.error("state file not written", file=str(self._file.path), problem=str(error))
