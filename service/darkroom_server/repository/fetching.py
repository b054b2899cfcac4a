"""Fetches versions of a remote repository in the background, a few files at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import structlog

from darkroom_server.kept_files import naming
from darkroom_server.repository.remote_models import RemoteVersion
from darkroom_server.repository.remote_store import RemoteError, RemoteFile, RemoteStore
from darkroom_server.repository.repository_cache import RepositoryCache

log = structlog.get_logger(__name__)

_FILES_AT_ONCE = 4
_BLOCK_BYTES = 8 << 20
#: Pauses before a fetch that failed is tried again.
_FIRST_RETRY_S, _MAX_RETRY_S = 5.0, 600.0


class _Stopped(Exception):
    """The server is about to stop."""


@dataclass(slots=True)
class _Fetch:
    version: RemoteVersion
    started_s: float
    failure_count: int = 0
    retry_at_s: float = 0.0
    #: Why it failed last; empty while it is under way.
    reason: str = ""
    pending: list[Future[None]] = field(default_factory=list)


class Fetcher:
    """What is being fetched. Methods are for one thread; the files come on threads of their own."""

    def __init__(self, store: RemoteStore, cache: RepositoryCache) -> None:
        self._store = store
        self._cache = cache
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(_FILES_AT_ONCE, thread_name_prefix="fetch")
        self._fetches: dict[str, _Fetch] = {}
        #: By the file's key: what two versions have in common is fetched once.
        self._files: dict[str, Future[None]] = {}

    def advance(self, version: RemoteVersion, now_s: float) -> str | None:
        """Begins to fetch a version or goes on with it; None once it is whole in the cache.

        Otherwise why it is not: empty while it is under way. Raises OSError.
        """
        fetch = self._fetches.get(version.key)
        if fetch is None:
            fetch = self._fetches[version.key] = _Fetch(version, now_s)
            self._begin(fetch)
        elif fetch.reason and now_s >= fetch.retry_at_s:
            fetch.reason = ""
            self._begin(fetch)
        if fetch.reason:
            return fetch.reason
        if not all(one.done() for one in fetch.pending):
            self._log("fetching", fetch, now_s)
            return ""
        failures = [error for one in fetch.pending if (error := one.exception()) is not None]
        if failures:
            fetch.reason = self._failed(fetch, failures[0], now_s)
            return fetch.reason
        keys = {name: one.key for name, one in version.files.items()}
        self._cache.assemble(version.key, keys)
        self._log("fetched", fetch, now_s)
        del self._fetches[version.key]
        return None

    def wait(self, timeout_s: float) -> None:
        """Blocks until all that is under way has ended, or the time is over."""
        pending = [one for fetch in self._fetches.values() for one in fetch.pending]
        wait(pending, timeout_s)

    def forget_others(self, wanted: Collection[str]) -> None:
        """Gives up what is not wanted any more, but for files that are under way."""
        self._fetches = {key: one for key, one in self._fetches.items() if key in wanted}
        needed = {one for fetch in self._fetches.values() for one in fetch.pending}
        for future in self._files.values():
            if future not in needed:
                future.cancel()
        self._files = {key: one for key, one in self._files.items() if not one.done()}

    def keys_under_way(self) -> set[str]:
        """Keys of the files that are wanted or being written."""
        wanted = {
            one.key for fetch in self._fetches.values() for one in fetch.version.files.values()
        }
        return wanted | {key for key, one in self._files.items() if not one.done()}

    def close(self) -> None:
        """Stops after the blocks that are under way; what was fetched of a file is gone on from."""
        self._stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _begin(self, fetch: _Fetch) -> None:
        fetch.pending = []
        for file in {one.key: one for one in fetch.version.files.values()}.values():
            if self._cache.has_file(file.key):
                continue
            known = self._files.get(file.key)
            if known is None or known.done():
                known = self._files[file.key] = self._pool.submit(self._fetch_file, file)
            fetch.pending.append(known)

    def _failed(self, fetch: _Fetch, error: BaseException, now_s: float) -> str:
        delay_s = min(_MAX_RETRY_S, _FIRST_RETRY_S * 2.0**fetch.failure_count)
        fetch.failure_count += 1
        fetch.retry_at_s = now_s + delay_s
        if isinstance(error, OSError):
            return error.strerror or type(error).__name__
        return str(error) or type(error).__name__

    def _log(self, event: str, fetch: _Fetch, now_s: float) -> None:
        version = fetch.version
        missing_bytes = self._cache.missing_bytes(version.files.values())
        log.info(
            event,
            model=version.shown,
            files=len(version.files),
            bytes=version.byte_count,
            percent=round(100 * (1 - missing_bytes / max(1, version.byte_count))),
            seconds=round(now_s - fetch.started_s, 1),
        )

    def _fetch_file(self, file: RemoteFile) -> None:
        """Runs in a thread of the pool; goes on where an earlier process stopped."""
        partial = self._cache.partial(file.key)
        with naming(partial), partial.open("ab") as out:
            position = out.seek(0, os.SEEK_END)
            if position > file.size_bytes:
                position = out.truncate(0)
            while position < file.size_bytes:
                if self._stopped.is_set():
                    raise _Stopped
                end = min(position + _BLOCK_BYTES, file.size_bytes)
                block = self._store.read(file.name, position, end)
                if not block:
                    raise RemoteError(f"{file.name} ends before its {file.size_bytes} bytes")
                position += out.write(block)
            out.flush()
            os.fsync(out.fileno())
        if position != file.size_bytes or self._store.look(file.name).key != file.key:
            partial.unlink()
            raise RemoteError(f"{file.name} changed while it was fetched")
        self._cache.keep(file.key)
