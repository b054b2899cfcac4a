"""An engine that follows a bucket: versions that come and go there, and a store that fails."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from darkroom_server.domain.errors import ModelNotFound
from darkroom_server.domain.model_status import VersionState
from darkroom_server.engine.engine import Engine, EngineOptions
from darkroom_server.engine.model_control import ControlOptions
from darkroom_server.repository.remote_repository import RemoteLocation
from darkroom_server.repository.remote_store import RemoteError, RemoteStore
from darkroom_server.telemetry.metrics import Metrics
from tests.integration.engine.test_updates import picture, serves, states, until
from tests.integration.repository.s3_server import URL, Bucket, serving_s3


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with serving_s3() as bucket:
        bucket.put("fake/config.pbtxt", "backend: BACKEND_FAKE\n")
        bucket.put("fake/1/weights", "weights 1")
        yield bucket


@asynccontextmanager
async def following(tmp_path: Path, *, poll_s: float = 0.1) -> AsyncIterator[Engine]:
    options = EngineOptions(
        model_repository=RemoteLocation(URL, tmp_path / "cache", 10**9),
        threads_per_worker=lambda _: 1,
        control=ControlOptions(poll_s=poll_s),
    )
    engine = Engine(options, Metrics())
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def test_no_request_fails_while_versions_swap_in_a_bucket(
    bucket: Bucket, tmp_path: Path
) -> None:
    async with following(tmp_path) as engine:
        await serves(engine, 1)
        done: list[int] = []

        async def ask(swapping: asyncio.Task[None]) -> None:
            while not swapping.done():
                done.append((await picture(engine, 1))[0])

        async def swap() -> None:
            for version in (2, 3, 4):
                await asyncio.to_thread(bucket.put, f"fake/{version}/weights", str(version))
                await serves(engine, version)
                await asyncio.to_thread(bucket.delete, f"fake/{version - 1}/")

        swapping = asyncio.create_task(swap())
        await asyncio.gather(swapping, *(ask(swapping) for _ in range(4)))
        assert set(done) >= {1, 2, 3}


async def test_a_store_that_goes_away_stops_nothing_that_serves(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with following(tmp_path) as engine:
        await serves(engine, 1)
        failures: list[str] = []

        def away(_: RemoteStore) -> None:
            failures.append("one look")
            raise RemoteError("away")

        with monkeypatch.context() as patched:
            patched.setattr(RemoteStore, "list", away)
            while len(failures) < 5:
                assert (await picture(engine, 1))[0] == 1
            assert states(engine) == {1: VersionState.READY}
            assert engine.is_ready()
        await asyncio.to_thread(bucket.put, "fake/2/weights", "2")
        await serves(engine, 2)


async def test_a_worker_comes_back_though_its_version_was_replaced_in_the_bucket(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with following(tmp_path) as engine:
        await serves(engine, 1)
        _, digest, content = await picture(engine, 1)

        def unreadable(*_: object) -> bytes:
            raise RemoteError("not now")

        monkeypatch.setattr(RemoteStore, "read", unreadable)
        await asyncio.to_thread(bucket.put, "fake/1/weights", "other weights")
        os.kill(engine.worker_pids()[0], signal.SIGKILL)
        await until(engine, lambda: states(engine)[1] is VersionState.UNAVAILABLE)
        assert (await picture(engine, 1))[1:] == (digest, content)


async def test_the_server_is_not_ready_before_its_models_have_been_fetched(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("other/config.pbtxt", "backend: BACKEND_FAKE\n")
    bucket.put("other/1/weights", "")
    read, may_come = RemoteStore.read, threading.Event()

    def slow(store: RemoteStore, name: str, begin: int, end: int) -> bytes:
        if name == "fake/1/weights":
            may_come.wait(300)
        return read(store, name, begin, end)

    monkeypatch.setattr(RemoteStore, "read", slow)
    # Also without polling it is looked at until all is there.
    async with following(tmp_path, poll_s=0.0) as engine:
        await until(engine, lambda: [m.is_ready() for m in engine.list_models()] == [True])
        assert not engine.is_ready()
        with pytest.raises(ModelNotFound, match="being fetched: fake"):
            await picture(engine, 1)
        may_come.set()
        await serves(engine, 1)
        assert engine.is_ready()
