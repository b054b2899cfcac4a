"""What the supervisor gives a worker after one died: jobs it suspects one by one, then the rest."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import replace
from errno import EAGAIN, ECONNREFUSED, EMFILE, ENFILE, ENOMEM
from pathlib import Path
from typing import Any

import pytest

from darkroom_server.domain.jobs import JobCompleted, JobProgress, JobQueued, JobTimings, Stage
from darkroom_server.domain.model_status import VersionState
from darkroom_server.domain.models import Dtype, VersionInfo
from darkroom_server.engine import worker_slot as slot_module
from darkroom_server.engine.supervisor import Supervisor
from darkroom_server.engine.worker_slot import SLICE_COUNT
from darkroom_server.lifecycle import restarts
from darkroom_server.lifecycle.restarts import MAX_DEATHS, MAX_STARVED_LOADS
from darkroom_server.telemetry.metrics import Metrics
from darkroom_server.worker.messages import (
    CancelJob,
    Command,
    JobReport,
    Report,
    SubmitJob,
    WorkerFailed,
    WorkerReady,
)
from tests.unit.example_models import SDXL
from tests.unit.specs import job

VERSION = VersionInfo(model=SDXL, version=1, path=Path("unused"), digest="ab" * 32, weight_bytes=0)

HANG_LIMIT_S = 10.0


class ScriptedProcess:
    """A worker that does nothing but what the test says."""

    def __init__(
        self, spec: Any, *, on_report: Callable[[Report], None], on_exit: Callable[[bool], None]
    ) -> None:
        del spec
        self.say = on_report
        self.die = lambda was_killed=False: on_exit(was_killed)
        self.pid = 1
        self.commands: list[Command] = []

    async def start(self) -> None:
        started.put_nowait(self)

    async def stop(self, *, by_force: bool) -> None:
        del by_force

    def send(self, command: Command) -> None:
        self.commands.append(command)

    def kill(self) -> None:
        self.die()

    @property
    def given(self) -> list[str]:
        """The jobs it was handed, in order."""
        return [one.job.job_id for one in self.commands if isinstance(one, SubmitJob)]

    def complete(self, job_id: str) -> None:
        completed = JobCompleted(image_count=1, timings=JobTimings())
        self.say(JobReport(job_id, completed))


started: asyncio.Queue[ScriptedProcess]


@pytest.fixture
async def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    global started
    started = asyncio.Queue()
    monkeypatch.setattr(slot_module, "WorkerProcess", ScriptedProcess)
    monkeypatch.setattr(restarts, "FIRST_RESTART_DELAY_S", 0.0)
    return supervised(VERSION)


def supervised(version: VersionInfo) -> Supervisor:
    return Supervisor(
        version,
        thread_count=1,
        prompt_cache_bytes=0,
        metrics=Metrics(),
        on_change=lambda: None,
        hang_limit_s=HANG_LIMIT_S,
    )


async def died(supervisor: Supervisor) -> ScriptedProcess:
    """A worker died at work on a, b and c while d waited; the next one, which is not ready yet."""
    await supervisor.start()
    first = await started.get()
    first.say(ready())
    for job_id in "abcd":
        supervisor.submit(job(job_id))
    assert first.given == ["a", "b", "c", "d"]
    for job_id in "abc":
        first.say(JobReport(job_id, JobProgress(stage=Stage.DENOISE)))
    first.die()
    return await started.get()


def ready() -> WorkerReady:
    return WorkerReady(memory_bytes=1, dtype=Dtype.FP32)


async def test_suspects_run_one_by_one_before_the_others(supervisor: Supervisor) -> None:
    worker = await died(supervisor)
    worker.say(ready())
    for done, given in (("a", "ab"), ("b", "abc"), ("c", "abcd")):
        worker.complete(done)
        assert worker.given == list(given)


async def test_a_suspect_that_is_cancelled_while_it_waits_is_never_run(
    supervisor: Supervisor,
) -> None:
    worker = await died(supervisor)
    worker.say(ready())
    supervisor.cancel("b")
    # The one at work is left alone, and nobody takes its place beside it.
    assert worker.given == ["a"]
    assert CancelJob("a") not in worker.commands
    worker.complete("a")
    assert worker.given == ["a", "c"]
    worker.complete("c")
    assert worker.given == ["a", "c", "d"]
    assert supervisor.job_count == 1


async def test_after_the_last_waiting_suspect_is_cancelled_the_others_follow(
    supervisor: Supervisor,
) -> None:
    worker = await died(supervisor)
    worker.say(ready())
    supervisor.cancel("b")
    supervisor.cancel("c")
    assert worker.given == ["a"]
    worker.complete("a")
    assert worker.given == ["a", "d"]


async def test_when_the_suspect_at_work_is_cancelled_the_next_is_given(
    supervisor: Supervisor,
) -> None:
    worker = await died(supervisor)
    worker.say(ready())
    supervisor.cancel("a")
    assert worker.commands[1:] == [CancelJob("a"), SubmitJob(job("b"), is_promised=True)]


@pytest.mark.parametrize(
    ("cancelled", "given"),
    [
        pytest.param("a", ["b"], id="the-first"),
        pytest.param("b", ["a"], id="another"),
        pytest.param("abc", ["d"], id="all"),
        pytest.param("d", ["a"], id="one-that-was-not-at-work"),
    ],
)
async def test_what_is_cancelled_before_the_next_worker_is_ready_is_not_given_to_it(
    supervisor: Supervisor, cancelled: str, given: list[str]
) -> None:
    worker = await died(supervisor)
    for job_id in cancelled:
        supervisor.cancel(job_id)
    assert supervisor.state is VersionState.UNAVAILABLE
    assert worker.given == []
    worker.say(ready())
    assert worker.given == given


async def test_jobs_that_come_meanwhile_wait_for_the_suspects(supervisor: Supervisor) -> None:
    worker = await died(supervisor)
    worker.say(ready())
    supervisor.submit(job("e"))
    supervisor.cancel("b")
    supervisor.cancel("a")
    assert worker.given == ["a", "c"]
    worker.complete("c")
    assert worker.given == ["a", "c", "d", "e"]


async def test_a_load_that_says_nothing_for_long_is_begun_anew(supervisor: Supervisor) -> None:
    await supervisor.start()
    await started.get()
    now_s = time.monotonic()
    supervisor.check_hang(now_s + 2 * HANG_LIMIT_S)
    assert supervisor.state is VersionState.LOADING
    supervisor.check_hang(now_s + 4 * HANG_LIMIT_S)
    assert supervisor.state is VersionState.UNAVAILABLE
    (await started.get()).say(ready())
    assert supervisor.state is VersionState.READY
    # Without work in hand nothing is expected of a worker.
    supervisor.check_hang(now_s + 100 * HANG_LIMIT_S)
    assert supervisor.state is VersionState.READY


@pytest.mark.usefixtures("supervisor")
async def test_a_version_none_of_whose_workers_is_up_does_not_count_as_ready() -> None:
    model = replace(SDXL, placements=SDXL.placements * 2)
    supervisor = supervised(replace(VERSION, model=model))
    await supervisor.start()
    first, second = [await started.get(), await started.get()]
    first.say(ready())
    second.say(ready())
    second.die()
    assert supervisor.state is VersionState.READY
    # The other one cannot be loaded again, while this one is still being restarted.
    first.say(WorkerFailed("broken"))
    assert supervisor.state is VersionState.UNAVAILABLE


#: As the system says that it has no room, and as the fork server shows that it had none.
REFUSALS = [
    *(OSError(number, os.strerror(number)) for number in (EMFILE, ENFILE, EAGAIN, ENOMEM)),
    ConnectionRefusedError(ECONNREFUSED, os.strerror(ECONNREFUSED)),
    EOFError(),
]


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """What the next starts fail of."""
    refusals: list[Exception] = []

    class Refused(ScriptedProcess):
        async def start(self) -> None:
            if refusals:
                raise refusals.pop()
            await super().start()

    monkeypatch.setattr(slot_module, "WorkerProcess", Refused)
    return refusals


@pytest.mark.parametrize("refusal", REFUSALS, ids=repr)
async def test_a_process_that_the_system_refuses_is_tried_for_until_there_is_one(
    supervisor: Supervisor, refusing: list[Exception], refusal: Exception
) -> None:
    await supervisor.start()
    worker = await started.get()
    worker.say(ready())
    stream = supervisor.submit(job("a"))
    refusing.extend([refusal] * (MAX_DEATHS + 3))
    worker.die()
    successor = await started.get()
    assert refusing == []
    assert supervisor.state is VersionState.UNAVAILABLE
    assert "No process can be started" in supervisor.status().message
    successor.say(ready())
    assert supervisor.state is VersionState.READY
    assert successor.given == ["a"]
    assert stream._error is None


async def test_one_that_is_refused_at_first_is_loaded_later(
    supervisor: Supervisor, refusing: list[Exception]
) -> None:
    refusing.append(OSError(EMFILE, os.strerror(EMFILE)))
    await supervisor.start()
    assert supervisor.status().message == (
        "No process can be started for the worker (Too many open files); it is tried again."
    )
    (await started.get()).say(ready())
    assert supervisor.state is VersionState.READY


async def test_a_load_that_the_machine_had_no_room_for_is_tried_again_so_many_times(
    supervisor: Supervisor,
) -> None:
    await supervisor.start()
    starved = WorkerFailed("The machine had no room to load it.", is_starved=True)
    for _ in range(2):
        for _ in range(MAX_STARVED_LOADS):
            worker = await started.get()
            worker.say(starved)
            # Its end is no death.
            worker.die()
            assert supervisor.state is VersionState.LOADING or "tried again" in (
                supervisor.status().message
            )
            assert supervisor.state is not VersionState.FAILED
        # One that was loaded counts anew.
        worker = await started.get()
        worker.say(ready())
        assert supervisor.state is VersionState.READY
        worker.die()
    for _ in range(MAX_STARVED_LOADS + 1):
        worker = await started.get()
        worker.say(starved)
    assert supervisor.state is VersionState.FAILED
    assert supervisor.status().message == "The machine had no room to load it."


async def test_deaths_still_count(supervisor: Supervisor, refusing: list[Exception]) -> None:
    await supervisor.start()
    for _ in range(MAX_DEATHS):
        worker = await started.get()
        refusing.append(OSError(EAGAIN, os.strerror(EAGAIN)))
        worker.die()
    assert supervisor.state is VersionState.FAILED


@pytest.mark.usefixtures("supervisor")
async def test_a_death_with_many_jobs_leaves_the_loop_free() -> None:
    """They are told their places, and handed over, some at a time: others get turns between."""
    count = 4 * SLICE_COUNT
    supervisor = supervised(replace(VERSION, model=replace(SDXL, max_queue_size=count)))
    await supervisor.start()
    first = await started.get()
    first.say(ready())
    streams = [supervisor.submit(job(str(number))) for number in range(count)]
    first.die()
    told = sum(bool(stream._waiting) for stream in streams)
    assert told == SLICE_COUNT
    second = await started.get()
    for _ in range(8):
        await asyncio.sleep(0)
    places = [stream._waiting[-1] for stream in streams]
    assert places == [JobQueued(place, model_loading=True) for place in range(count)]
    second.say(ready())
    assert len(second.given) == SLICE_COUNT
    for _ in range(8):
        await asyncio.sleep(0)
    assert second.given == [str(number) for number in range(count)]


async def two_workers(count: int) -> tuple[Supervisor, list[ScriptedProcess]]:
    """A version of two workers, which are ready, and may have so many jobs."""
    model = replace(SDXL, placements=SDXL.placements * 2, max_queue_size=count)
    supervisor = supervised(replace(VERSION, model=model))
    await supervisor.start()
    workers = [await started.get(), await started.get()]
    for worker in workers:
        worker.say(ready())
    return supervisor, workers


@pytest.mark.usefixtures("supervisor")
@pytest.mark.parametrize("failure", ["dies", "is given up"])
async def test_jobs_that_lose_their_worker_move_some_at_a_time(failure: str) -> None:
    count = 8 * SLICE_COUNT
    supervisor, (first, second) = await two_workers(count)
    streams = {str(number): supervisor.submit(job(str(number))) for number in range(count)}
    lost, before = list(first.given), list(second.given)
    if failure == "dies":
        first.die()
    else:
        first.say(WorkerFailed("broken"))
    assert second.given == before + lost[:SLICE_COUNT], "no more before others had a turn"
    assert supervisor.job_count == count, "those on their way still count"
    supervisor.cancel(lost[-1])
    for _ in range(8):
        await asyncio.sleep(0)
    assert second.given == before + lost[:-1], "in their order, but what was cancelled"
    assert supervisor.job_count == count - 1
    assert not any(stream._error for stream in streams.values())


@pytest.mark.usefixtures("supervisor")
async def test_jobs_on_their_way_end_with_the_last_worker() -> None:
    count = 8 * SLICE_COUNT
    supervisor, (first, second) = await two_workers(count)
    streams = [supervisor.submit(job(str(number))) for number in range(count)]
    first.say(WorkerFailed("broken"))
    second.say(WorkerFailed("broken, too"))
    for _ in range(16):
        await asyncio.sleep(0)
    assert all("broken" in str(stream._error) for stream in streams)
    assert supervisor.job_count == 0


@pytest.mark.usefixtures("supervisor")
async def test_jobs_on_their_way_end_when_the_version_stops() -> None:
    count = 8 * SLICE_COUNT
    supervisor, (first, _) = await two_workers(count)
    streams = [supervisor.submit(job(str(number))) for number in range(count)]
    first.die()
    await supervisor.stop()
    assert all(stream._error for stream in streams)
    assert supervisor.job_count == 0
