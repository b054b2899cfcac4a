"""The copy of a remote repository that the replicas of one node share: each version comes once."""

from __future__ import annotations

import time
from pathlib import Path

from darkroom_server.domain.models import VersionInfo
from darkroom_server.domain.problems import ProblemLog
from darkroom_server.repository.fetching import Fetcher
from darkroom_server.repository.remote_models import group
from darkroom_server.repository.remote_repository import RemoteLocation
from darkroom_server.repository.remote_store import RemoteStore
from darkroom_server.repository.repository_cache import RepositoryCache

#: Beside the copy of a server on the same machine, which has it to itself.
FOLDER_NAME = "nodes"
#: How often the log has how far a fetch is.
TELL_S = 5.0


def fetch(location: RemoteLocation, version: VersionInfo) -> Path:
    """The folder of a version on this node; waits while another replica fetches. Blocking.

    Raises RemoteError, CacheFull, OSError, and FileNotFoundError when the store has it no more.
    """
    folder = location.folder.parent / FOLDER_NAME / location.folder.name
    folder.mkdir(parents=True, exist_ok=True)
    cache = RepositoryCache(folder, location.cache_bytes)
    # The kernel wakes the next one, also when the one before it died.
    cache.open(waits=True)
    try:
        key = version.path.name
        if not cache.has_version(key):
            _fetch(RemoteStore(location.url), cache, version, key)
        return cache.versions / key
    finally:
        cache.close()


def _fetch(store: RemoteStore, cache: RepositoryCache, version: VersionInfo, key: str) -> None:
    models = group(store.list().values(), ProblemLog(""))
    model = models.get(version.model.name)
    found = None if model is None else model.versions.get(version.version)
    if found is None or found.key != key:
        raise FileNotFoundError(f"{version.model.name}/{version.version} changed in the store")
    needed_bytes = cache.missing_bytes(found.files.values())
    cache.make_room(needed_bytes, versions={key}, files={one.key for one in found.files.values()})
    fetcher = Fetcher(store, cache)
    try:
        while (reason := fetcher.advance(found, time.monotonic())) is not None:
            if reason:
                raise OSError(f"{found.shown} cannot be fetched: {reason}")
            fetcher.wait(TELL_S)
    finally:
        fetcher.close()
