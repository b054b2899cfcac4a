"""The engine on real worker processes with the fake model."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from darkroom_server.backends.fake import POISONING_PROMPT
from darkroom_server.domain.errors import (
    DarkroomError,
    Draining,
    ModelNotFound,
    ModelUnavailable,
    QueueFull,
    WorkerLost,
    WorkersKilled,
)
from darkroom_server.domain.jobs import (
    ImageSpec,
    JobCompleted,
    JobEvent,
    JobImage,
    JobProgress,
    JobQueued,
    Task,
)
from darkroom_server.domain.model_status import VersionState
from darkroom_server.domain.models import ModelRef
from darkroom_server.engine.engine import Engine, EngineOptions, Session
from darkroom_server.engine.worker_process import WorkerProcess
from darkroom_server.lifecycle.restarts import MAX_DEATHS
from darkroom_server.telemetry.metrics import Metrics
from tests.unit.specs import image_spec

WAIT_S = 300.0


def fake_repository(
    folder: Path,
    *,
    step_s: float = 0.0,
    load_s: float = 0.0,
    max_queue_size: int = 100,
    worker_count: int = 1,
) -> Path:
    (folder / "fake" / "1").mkdir(parents=True)
    (folder / "fake" / "config.pbtxt").write_text(
        f"backend: BACKEND_FAKE\nmax_queue_size: {max_queue_size}\n"
        f"fake {{ step_s: {step_s} load_s: {load_s} }}\n"
        f"instance_group {{ count: {worker_count} }}\n"
    )
    return folder


@asynccontextmanager
async def running(
    repository: Path, metrics: Metrics | None = None, *, hang_limit_s: float = 0.0
) -> AsyncIterator[Engine]:
    options = EngineOptions(
        model_repository=repository, threads_per_worker=lambda _: 1, hang_limit_s=hang_limit_s
    )
    engine = Engine(options, metrics or Metrics())
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def state(engine: Engine) -> VersionState:
    return engine.get_model("fake").versions[0].state


async def until(engine: Engine, wanted: VersionState) -> None:
    """Returns when the model is in a state; listens instead of sleeping."""
    changed = asyncio.Event()
    engine.add_listener(changed.set)
    async with asyncio.timeout(WAIT_S):
        while state(engine) is not wanted:
            changed.clear()
            await changed.wait()


@asynccontextmanager
async def submitted(
    engine: Engine, spec: ImageSpec, *, deadline_s: float | None = None
) -> AsyncIterator[Session]:
    async with engine.open(ModelRef(), Task.TEXT_TO_IMAGE) as session:
        await session.submit(spec, deadline_s=deadline_s)
        yield session


async def generate(engine: Engine, spec: ImageSpec) -> list[JobEvent]:
    async with asyncio.timeout(WAIT_S), submitted(engine, spec) as session:
        return [event async for event in session.events()]


async def all_events(session: Session) -> list[JobEvent]:
    async with asyncio.timeout(WAIT_S):
        return [event async for event in session.events()]


async def first_progress(session: Session) -> None:
    async for event in session.events():
        if not isinstance(event, JobQueued):
            return


async def test_requests_made_while_the_model_loads_wait_and_are_served(tmp_path: Path) -> None:
    async with running(fake_repository(tmp_path)) as engine:
        assert state(engine) is VersionState.LOADING
        events = await generate(engine, image_spec())
        assert events[0] == JobQueued(0, model_loading=True)
        assert isinstance(events[-2], JobImage)
        assert isinstance(events[-1], JobCompleted)
        assert state(engine) is VersionState.READY


async def test_a_killed_worker_comes_back_and_its_requests_notice_only_time(tmp_path: Path) -> None:
    async with running(fake_repository(tmp_path, step_s=0.02)) as engine:
        await until(engine, VersionState.READY)
        undisturbed = await generate(engine, image_spec(step_count=30, seeds=(5,)))
        async with submitted(engine, image_spec(step_count=30, seeds=(5,))) as session:
            events = session.events()
            seen = [await anext(events) for _ in range(4)]
            [killed] = engine.worker_pids()
            os.kill(killed, signal.SIGKILL)
            async with asyncio.timeout(WAIT_S):
                seen += [event async for event in events]
        assert seen[-2] == undisturbed[-2]
        assert isinstance(seen[-2], JobImage)
        assert isinstance(seen[-1], JobCompleted)
        steps = [e.completed_step_count for e in seen if isinstance(e, JobProgress)]
        assert steps == sorted(set(steps))
        assert engine.worker_pids() != (killed,)


async def test_health_is_told_that_a_killed_worker_is_away(tmp_path: Path) -> None:
    async with running(fake_repository(tmp_path)) as engine:
        await until(engine, VersionState.READY)
        seen: list[VersionState] = []
        engine.add_listener(lambda: seen.append(state(engine)))
        os.kill(engine.worker_pids()[0], signal.SIGKILL)
        await until(engine, VersionState.UNAVAILABLE)
        await until(engine, VersionState.READY)
        assert seen[0] is VersionState.UNAVAILABLE


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGSEGV, WorkerLost), (signal.SIGKILL, WorkersKilled)],
    ids=["of itself", "killed from outside"],
)
async def test_a_request_whose_worker_dies_each_time_fails_alone(
    tmp_path: Path, number: signal.Signals, error: type[DarkroomError]
) -> None:
    async with running(fake_repository(tmp_path, step_s=0.01)) as engine:
        await until(engine, VersionState.READY)
        async with submitted(engine, image_spec(step_count=400)) as poison:
            others = [
                asyncio.create_task(generate(engine, image_spec(step_count=20, seeds=(k,))))
                for k in range(3)
            ]

            async def kill_while_it_is_at_work() -> None:
                async for event in poison.events():
                    at_work = isinstance(event, JobProgress) and event.completed_step_count
                    if at_work and state(engine) is VersionState.READY:
                        os.kill(engine.worker_pids()[0], number)
                        await until(engine, VersionState.UNAVAILABLE)

            with pytest.raises(error):
                async with asyncio.timeout(WAIT_S):
                    await kill_while_it_is_at_work()
            ended = await asyncio.gather(*others)
        assert all(isinstance(events[-1], JobCompleted) for events in ended)
        assert state(engine) is not VersionState.FAILED


async def test_rule_12_a_worker_whose_device_is_lost_is_replaced_and_the_others_have_their_pictures(
    tmp_path: Path,
) -> None:
    async with running(fake_repository(tmp_path, step_s=0.01)) as engine:
        await until(engine, VersionState.READY)
        pids = set(engine.worker_pids())
        others = [
            asyncio.create_task(generate(engine, image_spec(step_count=20, seeds=(k,))))
            for k in range(3)
        ]
        with pytest.raises(WorkerLost):
            await generate(engine, image_spec(prompt=POISONING_PROMPT))
        ended = await asyncio.gather(*others)
        assert all(isinstance(events[-1], JobCompleted) for events in ended)
        await until(engine, VersionState.READY)
        assert pids.isdisjoint(engine.worker_pids())


async def test_leaving_a_session_frees_its_place(tmp_path: Path) -> None:
    async with running(fake_repository(tmp_path, step_s=0.02, max_queue_size=1)) as engine:
        async with submitted(engine, image_spec(step_count=500)) as session:
            await first_progress(session)
            with pytest.raises(QueueFull) as full:
                await generate(engine, image_spec())
            assert full.value.retry_after_s > 0
            async with engine.open(ModelRef(), Task.TEXT_TO_IMAGE) as another:
                with pytest.raises(QueueFull):
                    another.require_room()
        events = await generate(engine, image_spec(step_count=1))
        # Behind a job that still ran it would have been told its place.
        assert [e.ahead_count for e in events if isinstance(e, JobQueued)] == [0]


async def test_draining_lets_requests_end_and_refuses_new_ones(tmp_path: Path) -> None:
    async with running(fake_repository(tmp_path, step_s=0.02)) as engine:
        async with submitted(engine, image_spec(step_count=20)) as session:
            await first_progress(session)
            engine.begin_drain()
            with pytest.raises(Draining):
                await generate(engine, image_spec())
            ended = [event async for event in session.events()]
        assert isinstance(ended[-1], JobCompleted)
        async with asyncio.timeout(WAIT_S):
            await engine.finish_drain(WAIT_S)


async def test_draining_ends_what_takes_too_long_with_a_status(tmp_path: Path) -> None:
    async with (
        running(fake_repository(tmp_path, step_s=0.02)) as engine,
        submitted(engine, image_spec(step_count=5000)) as session,
    ):
        await first_progress(session)
        engine.begin_drain()
        await engine.finish_drain(0.0)
        with pytest.raises(Draining):
            await all_events(session)


async def test_a_worker_that_dies_again_and_again_is_given_up_with_the_reason(
    tmp_path: Path,
) -> None:
    async with running(fake_repository(tmp_path)) as engine:
        for after in [VersionState.UNAVAILABLE] * (MAX_DEATHS - 1) + [VersionState.FAILED]:
            await until(engine, VersionState.READY)
            os.kill(engine.worker_pids()[0], signal.SIGKILL)
            await until(engine, after)
        assert "died" in engine.get_model("fake").versions[0].message
        assert engine.worker_pids() == ()
        with pytest.raises(ModelUnavailable, match="died"):
            await generate(engine, image_spec())


async def test_stopping_while_models_load_leaves_no_process_behind(tmp_path: Path) -> None:
    async with running(fake_repository(tmp_path, load_s=30.0)) as engine:
        async with asyncio.timeout(WAIT_S):
            while not (pids := engine.worker_pids()):
                await asyncio.sleep(0.01)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


async def test_a_worker_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(fake_repository(tmp_path)) as engine:
        await until(engine, VersionState.READY)
        start, failures = WorkerProcess._start, [OSError("no process to be had"), EOFError()]

        def sometimes_fails(instance: WorkerProcess) -> None:
            if failures:
                raise failures.pop()
            start(instance)

        monkeypatch.setattr(WorkerProcess, "_start", sometimes_fails)
        os.kill(engine.worker_pids()[0], signal.SIGKILL)
        await until(engine, VersionState.UNAVAILABLE)
        assert isinstance((await generate(engine, image_spec()))[-1], JobCompleted)
        assert not failures


async def test_requests_made_before_the_repository_is_read_wait(tmp_path: Path) -> None:
    engine = Engine(
        EngineOptions(model_repository=fake_repository(tmp_path), threads_per_worker=lambda _: 1),
        Metrics(),
    )
    request = asyncio.create_task(generate(engine, image_spec()))
    await engine.start()
    try:
        assert isinstance((await request)[-1], JobCompleted)
    finally:
        await engine.stop()


async def test_names_that_nothing_has_are_not_found(tmp_path: Path) -> None:
    async with running(fake_repository(tmp_path)) as engine:
        with pytest.raises(ModelNotFound, match="fake"):
            engine.get_model("nobody")
        with pytest.raises(ModelNotFound, match="9"):
            async with engine.open(ModelRef("fake", "9"), Task.TEXT_TO_IMAGE):
                pass


async def test_a_worker_that_hangs_is_replaced_and_its_request_given_up_in_the_end(
    tmp_path: Path,
) -> None:
    repository = fake_repository(tmp_path, step_s=600.0)
    async with running(repository, hang_limit_s=1.0) as engine:
        await until(engine, VersionState.READY)
        pids = set(engine.worker_pids())
        with pytest.raises(WorkerLost):
            await generate(engine, image_spec(step_count=2))
        await until(engine, VersionState.READY)
        assert pids.isdisjoint(engine.worker_pids())


async def test_an_idle_worker_is_never_held_to_hang(tmp_path: Path) -> None:
    async with running(fake_repository(tmp_path), hang_limit_s=0.01) as engine:
        await until(engine, VersionState.READY)
        pids = engine.worker_pids()
        await asyncio.sleep(1.2)  # more than twice the interval at which workers are looked at
        assert engine.worker_pids() == pids
        assert state(engine) is VersionState.READY


async def test_requests_are_spread_over_the_workers_and_one_of_them_may_die(
    tmp_path: Path,
) -> None:
    repository = fake_repository(tmp_path, step_s=0.02, worker_count=2)
    async with running(repository) as engine:
        await until(engine, VersionState.READY)
        async with asyncio.timeout(WAIT_S):
            while len(set(engine.worker_pids())) < 2:
                await asyncio.sleep(0)
        specs = [image_spec(step_count=30, seeds=(seed,)) for seed in range(6)]
        undisturbed = await asyncio.gather(*(generate(engine, spec) for spec in specs))
        changes: list[VersionState] = []
        engine.add_listener(lambda: changes.append(state(engine)))
        disturbed = [asyncio.create_task(generate(engine, spec)) for spec in specs]
        await asyncio.sleep(0.2)  # all are at work
        os.kill(engine.worker_pids()[0], signal.SIGKILL)
        images = [
            [event for event in events if isinstance(event, JobImage)]
            for events in (*undisturbed, *await asyncio.gather(*disturbed))
        ]
        assert images[:6] == images[6:]
        # The other worker serves on.
        assert set(changes) == {VersionState.READY}
