"""Versions that come, change and go while requests run, on real workers with the fake model."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from darkroom_server.domain.errors import ModelNotFound
from darkroom_server.domain.jobs import JobImage, Task
from darkroom_server.domain.model_status import VersionState
from darkroom_server.domain.models import ModelRef
from darkroom_server.engine.engine import Engine, EngineOptions
from darkroom_server.engine.model_control import ControlOptions
from darkroom_server.telemetry.metrics import Metrics
from tests.unit.specs import image_spec

WAIT_S = 300.0


def write_config(root: Path, text: str = "") -> None:
    path = root / "fake" / "config.pbtxt"
    path.parent.mkdir(parents=True, exist_ok=True)
    # In one step, as an editor does.
    draft = root / "draft"
    draft.write_text(f"backend: BACKEND_FAKE\n{text}\n")
    draft.replace(path)


def add_version(root: Path, version: int, content: str = "") -> None:
    folder = root / "fake" / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights").write_text(content)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_config(tmp_path)
    add_version(tmp_path, 1)
    return tmp_path


@asynccontextmanager
async def polling(
    root: Path, *, settle_s: float = 0.0, metrics: Metrics | None = None
) -> AsyncIterator[Engine]:
    options = EngineOptions(
        model_repository=root,
        threads_per_worker=lambda _: 1,
        control=ControlOptions(poll_s=0.05, settle_s=settle_s),
    )
    engine = Engine(options, metrics or Metrics())
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def states(engine: Engine) -> dict[int, VersionState]:
    try:
        return {one.version: one.state for one in engine.get_model("fake").versions}
    except ModelNotFound:
        return {}


async def until(engine: Engine, condition: Callable[[], bool]) -> None:
    changed = asyncio.Event()
    engine.add_listener(changed.set)
    async with asyncio.timeout(WAIT_S):
        while not condition():
            changed.clear()
            await changed.wait()


async def serves(engine: Engine, version: int) -> None:
    """Returns when a version is the default one, and ready."""

    def is_so() -> bool:
        if states(engine).get(version) is not VersionState.READY:
            return False
        return engine.get_model("fake").default_version == version

    await until(engine, is_so)


async def picture(engine: Engine, seed: int, version: str = "") -> tuple[int, str, bytes]:
    """The version and digest that a request began with, and its image."""
    async with asyncio.timeout(WAIT_S):
        async with engine.open(ModelRef("fake", version), Task.TEXT_TO_IMAGE) as session:
            await session.submit(image_spec(seeds=(seed,)), deadline_s=None)
            images = [e async for e in session.events() if isinstance(e, JobImage)]
            return session.version, session.digest, images[0].content


async def test_a_new_version_takes_over_and_the_old_one_leaves(root: Path) -> None:
    metrics = Metrics()
    async with polling(root, metrics=metrics) as engine:
        await serves(engine, 1)
        assert "darkroom_model_swaps_total{" not in metrics.render("")[0].decode()
        add_version(root, 2)
        await serves(engine, 2)
        await until(engine, lambda: states(engine)[1] is VersionState.UNLOADED)
        assert (await picture(engine, 1))[0] == 2
        (swaps,) = [
            line
            for line in metrics.render("")[0].decode().splitlines()
            if line.startswith("darkroom_model_swaps_total{")
        ]
        assert swaps.endswith(" 1.0")


async def test_a_request_ends_on_the_version_it_began_with(root: Path) -> None:
    write_config(root, "fake { step_s: 0.02 }")
    async with polling(root) as engine:
        await serves(engine, 1)
        async with engine.open(ModelRef(), Task.TEXT_TO_IMAGE) as session:
            add_version(root, 2)
            await serves(engine, 2)
            # It has not even been submitted yet.
            assert states(engine)[1] is VersionState.UNLOADING
            await session.submit(image_spec(step_count=20), deadline_s=None)
            images = [e async for e in session.events() if isinstance(e, JobImage)]
            assert session.version == 1
            assert len(images) == 1
        await until(engine, lambda: states(engine)[1] is VersionState.UNLOADED)


@pytest.mark.parametrize("policy", ["AVAILABILITY", "RESOURCE"])
async def test_no_request_fails_while_versions_swap(root: Path, policy: str) -> None:
    write_config(root, f"update_policy: UPDATE_POLICY_{policy}")
    swap_count, request_count = 20, 2000
    async with polling(root) as engine:
        await serves(engine, 1)
        done: list[tuple[int, str, bytes]] = []

        async def ask(worker: int) -> None:
            for k in range(request_count // 20):
                done.append(await picture(engine, (worker * 1000 + k) % 50))

        async def swap() -> None:
            for version in range(2, swap_count + 2):
                add_version(root, version)
                await serves(engine, version)
                shutil.rmtree(root / "fake" / str(version - 1))

        await asyncio.gather(swap(), *(ask(worker) for worker in range(20)))
        assert len(done) == request_count
        versions = Counter(version for version, _, _ in done)
        assert len(versions) > 1
        # The fake's pixels depend on the seed alone.
        assert len({content for _, _, content in done}) == 50


async def test_other_files_in_the_same_version_are_another_edition(root: Path) -> None:
    async with polling(root) as engine:
        await serves(engine, 1)
        _, before, _ = await picture(engine, 1)
        add_version(root, 1, "other weights")
        await until(engine, lambda: engine.get_model("fake").versions[0].digest != before)
        await serves(engine, 1)
        assert (await picture(engine, 1))[1] != before


async def test_a_config_that_is_spoilt_stops_nothing_and_counts_once_it_is_mended(
    root: Path,
) -> None:
    async with polling(root) as engine:
        await serves(engine, 1)
        write_config(root, "max_batch_size: nonsense")
        add_version(root, 2)
        await asyncio.sleep(0.5)  # ten looks
        assert states(engine) == {1: VersionState.READY}
        assert (await picture(engine, 1))[0] == 1
        write_config(root)
        await serves(engine, 2)


async def test_a_broken_model_beside_a_good_one_stops_nothing(root: Path) -> None:
    (root / "broken" / "1").mkdir(parents=True)
    (root / "broken" / "1" / "model_index.json").write_text("{")
    async with polling(root) as engine:
        await serves(engine, 1)
        add_version(root, 2)
        await serves(engine, 2)


async def test_what_is_still_being_written_is_not_loaded_and_what_serves_goes_on(
    root: Path,
) -> None:
    async with polling(root, settle_s=0.6) as engine:
        await serves(engine, 1)
        for part in range(8):
            add_version(root, 2, "x" * part)
            await asyncio.sleep(0.15)
            assert 2 not in states(engine)
        await serves(engine, 2)


async def test_another_configuration_is_taken_like_a_new_version(root: Path) -> None:
    async with polling(root) as engine:
        await serves(engine, 1)
        [before] = engine.worker_pids()
        write_config(root, 'version_labels { key: "stable" value: 1 }')
        await until(engine, lambda: engine.get_model("fake").model.version_labels == {"stable": 1})
        assert engine.worker_pids() == (before,)
        write_config(root, "defaults { step_count: 7 }")
        await until(engine, lambda: engine.get_model("fake").model.defaults.step_count == 7)
        await until(engine, lambda: before not in engine.worker_pids())
        assert states(engine) == {1: VersionState.READY}
        assert (await picture(engine, 1))[0] == 1


async def test_a_label_moves_when_its_version_serves(root: Path) -> None:
    policy = "version_policy { all {} }"
    write_config(root, f'{policy} version_labels {{ key: "stable" value: 1 }}')
    add_version(root, 2)
    async with polling(root) as engine:
        await until(engine, lambda: set(states(engine).values()) == {VersionState.READY})
        assert (await picture(engine, 1))[0] == 1
        assert (await picture(engine, 1, "2"))[0] == 2
        write_config(root, f'{policy} version_labels {{ key: "stable" value: 2 }}')
        await serves(engine, 2)
        assert (await picture(engine, 1, "stable"))[0] == 2


async def test_a_model_that_is_taken_away_is_let_go_and_may_come_back(root: Path) -> None:
    async with polling(root) as engine:
        await serves(engine, 1)
        (root / "fake").rename(root / ".away")
        await until(engine, lambda: not states(engine))
        with pytest.raises(ModelNotFound):
            await picture(engine, 1)
        (root / ".away").rename(root / "fake")
        await serves(engine, 1)
        await picture(engine, 1)


async def test_every_request_has_its_picture_though_workers_are_killed_at_random(
    root: Path,
) -> None:
    write_config(root, "fake { step_s: 0.002 } instance_group { count: 2 }")
    rng = random.Random(0)
    async with polling(root) as engine:
        await serves(engine, 1)
        alone = [(await picture(engine, seed))[2] for seed in range(10)]
        made: list[bytes] = []

        async def ask(first: int) -> None:
            for k in range(first, 500, 10):
                made.append((await picture(engine, k % 10))[2])
                assert made[-1] == alone[k % 10]

        async def kill(asking: asyncio.Future[list[None]]) -> int:
            killed_count = 0
            while not asking.done():
                # Seldom enough that no request is at work at three deaths.
                await asyncio.sleep(rng.uniform(0.3, 0.6))
                # There may be none for a moment: both are being started again.
                if not (pids := engine.worker_pids()):
                    continue
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rng.choice(pids), signal.SIGKILL)
                    killed_count += 1
            return killed_count

        asking = asyncio.gather(*(ask(worker) for worker in range(10)))
        killed_count = await kill(asking)
        await asking
        assert len(made) == 500
        assert killed_count >= 3
