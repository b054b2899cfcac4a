"""Loads against the memory that there is, told by the test, on real workers with the fake model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from darkroom_server.domain.errors import NotEnoughMemory
from darkroom_server.domain.jobs import Task
from darkroom_server.domain.model_status import VersionState
from darkroom_server.domain.models import BackendKind, ModelRef
from darkroom_server.engine.engine import Engine, EngineOptions
from darkroom_server.engine.memory_gate import DEFAULT_OVERHEAD_BYTES
from darkroom_server.engine.model_control import ControlOptions
from darkroom_server.lifecycle.memory import Device
from darkroom_server.telemetry.metrics import Metrics
from tests.integration.engine.test_engine import WAIT_S
from tests.integration.engine.test_updates import until
from tests.unit.repository.builders import Repository, safetensors

S = VersionState
MIB = 1 << 20
OVERHEAD = DEFAULT_OVERHEAD_BYTES[BackendKind.FAKE]


@dataclass
class ToldMemory:
    """As much memory as the test says; each worker holds what it says, and had some more."""

    available: int = 10**12
    held: int = 0
    growth: int = 0

    def gpu_count(self) -> int:
        return 0

    def available_bytes(self, device: Device) -> int | None:
        assert device is None
        return self.available

    def held_bytes(self, pids: Iterable[int], device: Device = None) -> int:
        assert device is None
        return self.held * len(tuple(pids))

    def growth_bytes(self, pids: Iterable[int]) -> int:
        return self.growth * len(tuple(pids))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path)
    for name in "abc":
        repository.fake(name)
        repository.write(f"{name}/1/model.safetensors", safetensors(w=MIB // 4))
    return repository


@asynccontextmanager
async def running(
    repository: Repository, memory: ToldMemory, control: ControlOptions | None = None
) -> AsyncIterator[Engine]:
    engine = Engine(
        EngineOptions(
            model_repository=repository.root,
            threads_per_worker=lambda _: 1,
            control=control or ControlOptions(is_explicit=True),
            memory=memory,
        ),
        Metrics(),
    )
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def load(engine: Engine, name: str, *, evict_idle: bool = False) -> None:
    async with asyncio.timeout(WAIT_S):
        async for _ in engine.control.load(name, evict_idle=evict_idle):
            pass


def states(engine: Engine) -> dict[str, VersionState]:
    return {one.model.name: one.versions[0].state for one in engine.list_models()}


async def test_rule_5_what_does_not_fit_is_refused_with_the_figures(
    repository: Repository,
) -> None:
    memory = ToldMemory()
    async with running(repository, memory) as engine:
        await load(engine, "a")
        memory.available = MIB // 2
        with pytest.raises(NotEnoughMemory, match=r"b/1 needs \d+ MiB of memory \(weights 1 MiB"):
            await load(engine, "b")
        assert states(engine) == {"a": S.READY, "b": S.FAILED, "c": S.UNLOADED}
        assert "0 MiB are available" in engine.get_model("b").versions[0].message
        # The next try is a new one.
        memory.available = 10**12
        await load(engine, "b")
        assert states(engine)["b"] is S.READY


async def test_what_others_are_about_to_take_is_not_available(repository: Repository) -> None:
    repository.config("a", "backend: BACKEND_FAKE fake { load_s: 60 }")
    memory = ToldMemory(available=OVERHEAD + MIB + MIB // 2)
    async with running(repository, memory) as engine:
        loading = asyncio.create_task(load(engine, "a"))
        await until(engine, lambda: bool(engine.worker_pids()))
        with pytest.raises(NotEnoughMemory):
            await load(engine, "b")
        # What it has taken already is no longer counted twice.
        memory.held = MIB
        await load(engine, "b")
        loading.cancel()


async def test_idle_versions_make_room_the_longest_unused_first(repository: Repository) -> None:
    memory = ToldMemory()
    async with running(repository, memory) as engine:
        await load(engine, "a")
        await load(engine, "b")
        await picture_of(engine, "a")
        memory.held, memory.available = 2 * OVERHEAD, 0

        def gives_back() -> None:
            if S.UNLOADED in (states(engine)["a"], states(engine)["b"]):
                memory.available = 2 * OVERHEAD

        engine.add_listener(gives_back)
        with pytest.raises(NotEnoughMemory):
            await load(engine, "c")
        assert states(engine) == {"a": S.READY, "b": S.READY, "c": S.FAILED}
        await load(engine, "c", evict_idle=True)
        assert states(engine) == {"a": S.READY, "b": S.UNLOADED, "c": S.READY}


async def picture_of(engine: Engine, name: str) -> None:
    async with engine.open(ModelRef(name), Task.TEXT_TO_IMAGE):
        pass


async def test_nothing_leaves_for_a_load_that_would_not_fit_all_the_same(
    repository: Repository,
) -> None:
    memory = ToldMemory()
    async with running(repository, memory) as engine:
        await load(engine, "a")
        memory.available = 0
        with pytest.raises(NotEnoughMemory):
            await load(engine, "b", evict_idle=True)
        assert states(engine)["a"] is S.READY


async def test_what_a_request_holds_does_not_leave(repository: Repository) -> None:
    memory = ToldMemory()
    async with running(repository, memory) as engine:
        await load(engine, "a")
        memory.held, memory.available = 2 * OVERHEAD, 0
        async with engine.open(ModelRef("a"), Task.TEXT_TO_IMAGE):
            with pytest.raises(NotEnoughMemory):
                await load(engine, "b", evict_idle=True)
            assert states(engine)["a"] is S.READY


@pytest.mark.parametrize(
    ("available", "growth", "fits"),
    [
        pytest.param(10**12, 0, True, id="enough"),
        pytest.param(0, 0, False, id="too-little"),
        # The old one has had more than it has now, and may take it again.
        pytest.param(OVERHEAD + 3 * MIB, 0, True, id="enough-for-both-as-they-are"),
        pytest.param(OVERHEAD + 3 * MIB, 100 * MIB, False, id="not-at-the-peak-of-the-old"),
    ],
)
async def test_rule_4_auto_updates_beside_the_old_where_both_fit(
    repository: Repository, available: int, growth: int, fits: bool
) -> None:
    repository.config("a", "backend: BACKEND_FAKE update_policy: UPDATE_POLICY_AUTO")
    memory = ToldMemory(held=OVERHEAD)
    control = ControlOptions(poll_s=0.05)
    async with running(repository, memory, control) as engine:
        await until(engine, lambda: set(states(engine).values()) == {S.READY})
        seen: list[tuple[VersionState, ...]] = []

        def look() -> None:
            by_number = {one.version: one.state for one in engine.get_model("a").versions}
            seen.append((by_number[1], by_number.get(2, S.UNLOADED)))
            if by_number[1] is S.UNLOADED:
                memory.available = 10**12

        engine.add_listener(look)
        memory.available, memory.growth = available, growth
        repository.write("draft/model.safetensors", safetensors(w=MIB // 4))
        (repository.root / "draft").rename(repository.root / "a" / "2")
        await until(engine, lambda: engine.get_model("a").default_version == 2)
        await until(engine, lambda: states(engine)["a"] is S.READY)
        was_beside = any(old is S.READY and new is S.LOADING for old, new in seen)
        assert was_beside is fits
