"""The keys that count now. Bound to one event loop."""

from __future__ import annotations

import asyncio
import hmac
from pathlib import Path

import structlog

from darkroom_server.access.files import in_file_thread
from darkroom_server.access.key_format import digest_of, id_in
from darkroom_server.access.keys_file import KeysFileError, read_keys
from darkroom_server.domain.errors import InvalidApiKey
from darkroom_server.domain.keys import ApiKey

WATCH_INTERVAL_S = 1.0
#: Compared with when no key has the id: every attempt does the same work.
_NOBODY = bytes(32)

log = structlog.get_logger(__name__)


class KeyRing:
    """The keys of a file, read again when it changes; a broken edit keeps those before it."""

    def __init__(self, path: Path) -> None:
        """Reads the file; raises KeysFileError."""
        self._path = path
        self._stamp = _stamp(path)
        self._keys = {key.id: key for key in read_keys(path)}
        log.info("keys read", count=len(self._keys))

    def find(self, text: str) -> ApiKey:
        """The key; raises InvalidApiKey."""
        key_id = id_in(text)
        if key_id is None:
            raise InvalidApiKey(
                "This is no key of this service, or a part of it is missing or mistyped."
            )
        key = self._keys.get(key_id)
        known = _NOBODY if key is None else key.sha256
        if not hmac.compare_digest(digest_of(text), known) or key is None:
            raise InvalidApiKey("The API key is not known.")
        if key.is_revoked:
            raise InvalidApiKey(f"The API key {key.id} was revoked.")
        return key

    async def watch(self) -> None:
        """Checks the file every second; never returns."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            await in_file_thread(self.refresh)

    def refresh(self) -> None:
        """Reads the file if it is another; what is wrong with it is logged."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            keys = read_keys(self._path)
        except KeysFileError as error:
            log.error("keys not read again; those before still count", problem=str(error))
            return
        self._keys = {key.id: key for key in keys}
        log.info("keys read", count=len(keys))


def _stamp(path: Path) -> tuple[int, ...]:
    """Changes whenever the file does; empty when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return (status.st_ino, status.st_mtime_ns, status.st_size)
