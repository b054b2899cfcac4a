"""Replicas of a node share one copy of a repository: whoever comes second waits, and reads it."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from darkroom_server.domain.models import VersionInfo
from darkroom_server.domain.problems import ProblemLog
from darkroom_server.repository.fetching import Fetcher
from darkroom_server.repository.remote_models import RemoteVersion, group
from darkroom_server.repository.remote_repository import RemoteLocation
from darkroom_server.repository.remote_store import RemoteError, RemoteStore
from darkroom_server.scale_out.node_copy import fetch
from tests.unit.example_models import SDXL

WAIT_S = 120.0


@pytest.fixture
def location(tmp_path: Path) -> RemoteLocation:
    folder = tmp_path / "store" / "fake"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text("backend: BACKEND_FAKE")
    (folder / "1" / "weights.safetensors").write_bytes(bytes(range(256)) * 64)
    return RemoteLocation(f"file://{tmp_path}/store", tmp_path / "cache", 1 << 20)


@pytest.fixture
def version(location: RemoteLocation) -> VersionInfo:
    models = group(RemoteStore(location.url).list().values(), ProblemLog(""))
    key = models["fake"].versions[1].key
    model = replace(SDXL, name="fake")
    path = location.folder / ".versions" / key
    return VersionInfo(model=model, version=1, path=path, digest="", weight_bytes=0)


def test_replicas_that_start_together_fetch_once(
    location: RemoteLocation, version: VersionInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, both_want = Counter[str](), threading.Barrier(2)
    read = RemoteStore.read

    def counted(store: RemoteStore, name: str, begin: int, end: int) -> bytes:
        reads[name] += 1
        return read(store, name, begin, end)

    def wanted(_: int) -> Path:
        both_want.wait(WAIT_S)
        return fetch(location, version)

    monkeypatch.setattr(RemoteStore, "read", counted)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(wanted, range(2), timeout=WAIT_S)
    assert first == second
    assert (first / "weights.safetensors").stat().st_size == 256 * 64
    assert reads == {"fake/1/weights.safetensors": 1}


def test_what_cannot_be_fetched_says_why_and_leaves_the_copy_to_others(
    location: RemoteLocation, version: VersionInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise RemoteError("the store is away")

    with monkeypatch.context() as patched:
        patched.setattr(RemoteStore, "read", broken)
        with pytest.raises(OSError, match="fake/1 cannot be fetched: the store is away"):
            fetch(location, version)
    assert (fetch(location, version) / "weights.safetensors").exists()


def test_a_failure_is_not_asked_about_until_all_files_have_ended(
    location: RemoteLocation, version: VersionInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path(location.url.removeprefix("file://")) / "fake" / "1" / "small").write_bytes(b"x")
    models = group(RemoteStore(location.url).list().values(), ProblemLog(""))
    key = models["fake"].versions[1].key
    version = replace(version, path=location.folder / ".versions" / key)
    asked_count, failed, may_end = 0, threading.Event(), threading.Event()
    advance = Fetcher.advance

    def counted(fetcher: Fetcher, one: RemoteVersion, now_s: float) -> str | None:
        nonlocal asked_count
        asked_count += 1
        return advance(fetcher, one, now_s)

    def broken(_store: RemoteStore, name: str, *_: object) -> bytes:
        if name.endswith("small"):
            failed.set()
            raise RemoteError("the store is away")
        may_end.wait(WAIT_S)
        raise RemoteError("the store is away")

    monkeypatch.setattr(Fetcher, "advance", counted)
    monkeypatch.setattr(RemoteStore, "read", broken)
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(fetch, location, version)
        assert failed.wait(WAIT_S)
        may_end.set()
        with pytest.raises(OSError, match="the store is away"):
            fetching.result(WAIT_S)
    assert asked_count <= 3
