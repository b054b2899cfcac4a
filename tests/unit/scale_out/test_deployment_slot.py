"""What becomes of jobs whose replicas die, refuse, leave or cannot be reached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from darkroom_server.domain.errors import DarkroomError, DeadlineExceeded, QueueFull, WorkerLost
from darkroom_server.domain.jobs import JobCompleted, JobProgress, JobTimings, Stage
from darkroom_server.domain.models import Dtype, VersionInfo
from darkroom_server.engine.active_job import ActiveJob
from darkroom_server.engine.slot_contract import ServingSlot
from darkroom_server.engine.stream import JobStream
from darkroom_server.engine.version_metrics import VersionMetrics
from darkroom_server.lifecycle.worker_states import WorkerState
from darkroom_server.scale_out import deployment_slot as deployment_slot
from darkroom_server.scale_out.deployment_slot import DeploymentSlot
from darkroom_server.scale_out.load_table import table_of
from darkroom_server.scale_out.messages import JobNews, ReplicaState, RunJob
from darkroom_server.scale_out.options import ReplicaOrder, ScaleOutOptions
from darkroom_server.scale_out.replicas import AppStatus, ClusterLost, ReplicaLost
from darkroom_server.telemetry.metrics import Metrics
from darkroom_server.worker.messages import WorkerStats
from tests.unit.example_models import SDXL
from tests.unit.specs import job

VERSION = VersionInfo(model=SDXL, version=1, path=Path("unused"), digest="ab" * 32, weight_bytes=0)
COMPLETED = JobCompleted(image_count=1, timings=JobTimings())
PROGRESS = JobProgress(stage=Stage.DENOISE, completed_step_count=1, total_step_count=3)


class ScriptedCall:
    """A job at a replica; the test says what happens to it."""

    def __init__(self, request: RunJob, replica_id: str | None) -> None:
        self.request, self.replica_id = request, replica_id
        self.is_cancelled = False
        self._said: asyncio.Queue[JobNews | Exception] = asyncio.Queue()

    def say(
        self, *events: Any, error: DarkroomError | None = None, state: ReplicaState | None = None
    ) -> None:
        self._said.put_nowait(JobNews(tuple(events), error, state))

    def die(self) -> None:
        self._said.put_nowait(ReplicaLost("it died"))

    async def news(self) -> AsyncGenerator[JobNews]:
        while True:
            said = await self._said.get()
            if isinstance(said, Exception):
                raise said
            yield said

    def cancel(self) -> None:
        self.is_cancelled = True
        # As a call of Serve that was cancelled ends.
        self._said.put_nowait(ReplicaLost("it was cancelled"))


class ScriptedHost:
    """Replicas that do nothing but what the test says."""

    def __init__(self) -> None:
        self.options = ScaleOutOptions()
        self.is_leaving = False
        self.now = AppStatus(is_there=True, replicas={"RUNNING": 2}, target_count=2)
        self.calls: asyncio.Queue[ScriptedCall] = asyncio.Queue()
        self.deleted: list[str] = []
        self.app_name = ""

    def run(self, order: ReplicaOrder) -> ScriptedHost:
        self.app_name = order.app_name
        table_of(order.app_name).set_replicas(("a", "b"))
        return self

    def send(self, request: RunJob) -> ScriptedCall:
        table = table_of(self.app_name)
        call = ScriptedCall(request, table.place(request, sorted(table.replica_ids)))
        self.calls.put_nowait(call)
        return call

    async def state(self) -> ReplicaState:
        return state_of("a", 0, WorkerStats())

    def delete(self, app_name: str) -> None:
        self.deleted.append(app_name)

    def status(self, app_name: str) -> AppStatus:
        del app_name
        return self.now


class Owner:
    def __init__(self) -> None:
        self.states: asyncio.Queue[WorkerState] = asyncio.Queue()
        self.ended: list[tuple[str, bool]] = []

    def slot_changed(self, slot: ServingSlot) -> None:
        self.states.put_nowait(slot.state)

    def job_ended(self, job_id: str, completed: JobCompleted | None) -> None:
        self.ended.append((job_id, completed is not None))


@pytest.fixture
def host() -> ScriptedHost:
    return ScriptedHost()


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
async def slot(
    host: ScriptedHost, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[DeploymentSlot]:
    monkeypatch.setattr(deployment_slot, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(deployment_slot, "POLL_S", 0.0)
    order = ReplicaOrder(
        version=VERSION,
        location=Path("unused"),
        thread_count=1,
        prompt_cache_bytes=0,
        hang_limit_s=0.0,
        memory_check=False,
    )
    metrics = VersionMetrics(Metrics(), model="m", version=1)
    made = DeploymentSlot(order, host, metrics=metrics, owner=owner)
    yield made
    await made.stop()


async def ready(slot: DeploymentSlot, owner: Owner) -> None:
    await slot.start()
    while await owner.states.get() is not WorkerState.READY:
        pass


def active(job_id: str = "1", **changes: Any) -> ActiveJob:
    return ActiveJob(job(job_id, **changes), JobStream(), 0.0)


def state_of(replica_id: str, number: int, stats: WorkerStats) -> ReplicaState:
    return ReplicaState(
        replica_id=replica_id,
        number=number,
        node_id="node",
        work_s=0.0,
        memory_bytes=0,
        dtype=Dtype.FP32,
        made_by="torch-2.13",
        stats=stats,
    )


async def events(one: ActiveJob) -> list[Any]:
    return [event async for event in one.stream]


async def test_jobs_wait_for_replicas(
    slot: DeploymentSlot, host: ScriptedHost, owner: Owner
) -> None:
    one = active()
    slot.submit(one)
    assert host.calls.empty()
    await ready(slot, owner)
    call = await host.calls.get()
    assert call.request.is_promised
    call.say(COMPLETED)
    told = await events(one)
    assert told[0].model_loading
    assert owner.ended == [("1", True)]


async def test_what_computes_is_known_before_the_first_job(
    slot: DeploymentSlot, owner: Owner
) -> None:
    await ready(slot, owner)
    assert (slot.dtype, slot.made_by) == (Dtype.FP32, "torch-2.13")


async def test_a_job_whose_replica_died_goes_to_another(
    slot: DeploymentSlot, host: ScriptedHost, owner: Owner
) -> None:
    await ready(slot, owner)
    one = active()
    slot.submit(one)
    first = await host.calls.get()
    first.say(PROGRESS)
    first.die()
    second = await host.calls.get()
    assert {first.replica_id, second.replica_id} == {"a", "b"}
    assert second.request.is_promised
    second.say(PROGRESS, COMPLETED)
    told = await events(one)
    assert [type(event) for event in told] == [JobProgress, JobCompleted]


async def test_a_job_during_which_three_replicas_died_is_held_to_be_the_cause(
    slot: DeploymentSlot, host: ScriptedHost, owner: Owner
) -> None:
    await ready(slot, owner)
    one = active()
    slot.submit(one)
    for _ in range(3):
        call = await host.calls.get()
        call.say(PROGRESS)
        call.die()
    with pytest.raises(WorkerLost):
        await events(one)
    assert not slot.jobs


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(DeadlineExceeded("too late"), id="no-time"),
        pytest.param(QueueFull("full", retry_after_s=1.0), id="no-room"),
    ],
)
async def test_what_one_replica_refuses_is_offered_to_the_others_before_it_is_refused(
    slot: DeploymentSlot, host: ScriptedHost, owner: Owner, refusal: DarkroomError
) -> None:
    await ready(slot, owner)
    taken, refused = active("1"), active("2")
    for one in (taken, refused):
        slot.submit(one)
        (await host.calls.get()).say(error=refusal)
        call = await host.calls.get()
        assert len(call.request.avoided) == 1
        assert call.replica_id not in call.request.avoided
        if one is taken:
            call.say(COMPLETED)
        else:
            call.say(error=refusal)
    assert [type(event) for event in await events(taken)] == [JobCompleted]
    with pytest.raises(type(refusal)):
        await events(refused)


async def test_states_that_were_overtaken_and_workers_that_count_anew_end_no_job(
    slot: DeploymentSlot, host: ScriptedHost, owner: Owner
) -> None:
    await ready(slot, owner)
    one = active()
    slot.submit(one)
    call = await host.calls.get()
    for number, step_count in ((2, 9), (1, 5), (3, 1)):
        stats = WorkerStats(step_count_by_rows=((1, step_count),), capacity_row_count=step_count)
        call.say(state=state_of("a", number, stats))
    call.say(COMPLETED)
    assert [type(event) for event in await events(one)] == [JobCompleted]
    assert slot.stats.step_count == 1


async def test_a_cancelled_job_stops_at_its_replica(
    slot: DeploymentSlot, host: ScriptedHost, owner: Owner
) -> None:
    await ready(slot, owner)
    slot.submit(active())
    call = await host.calls.get()
    slot.cancel("1")
    assert call.is_cancelled
    assert not slot.jobs
    await asyncio.sleep(0)
    assert host.calls.empty()


async def test_what_a_leaving_replica_has_not_begun_goes_elsewhere(
    slot: DeploymentSlot, host: ScriptedHost, owner: Owner
) -> None:
    await ready(slot, owner)
    begun, waiting = active("1"), active("2", width_px=32)
    slot.submit(begun)
    first = await host.calls.get()
    first.say(PROGRESS)
    slot.submit(waiting)
    second = await host.calls.get()
    while not begun.is_begun:
        await asyncio.sleep(0)
    table_of(host.app_name).set_replicas(("c",))
    third = await host.calls.get()
    assert (third.request.job.job_id, third.replica_id) == ("2", "c")
    assert second.is_cancelled
    assert not first.is_cancelled


async def test_a_model_that_no_replica_can_load_fails(
    slot: DeploymentSlot, host: ScriptedHost, owner: Owner
) -> None:
    host.now = AppStatus(is_there=True, has_failed=True, message="no weights")
    await slot.start()
    assert await owner.states.get() is WorkerState.FAILED
    assert slot.message == "no weights"


async def test_it_serves_when_all_replicas_do_and_for_as_long_as_any_does(
    slot: DeploymentSlot, host: ScriptedHost
) -> None:
    host.now = AppStatus(is_there=True, replicas={"RUNNING": 1, "STARTING": 1}, target_count=2)
    slot._on_status(host.now)
    assert slot.state is WorkerState.LOADING
    for replicas, state in (
        ({"RUNNING": 2}, WorkerState.READY),
        ({"RUNNING": 1, "STARTING": 1}, WorkerState.READY),
        ({"STARTING": 2}, WorkerState.RESTARTING),
        ({"RUNNING": 1, "STARTING": 1}, WorkerState.READY),
    ):
        slot._on_status(AppStatus(is_there=True, replicas=replicas, target_count=2))
        assert slot.state is state


async def test_it_serves_with_the_replicas_that_start_where_others_fail(
    slot: DeploymentSlot,
) -> None:
    some = {"RUNNING": 1, "STARTING": 1}
    status = AppStatus(is_there=True, replicas=some, target_count=2)
    slot._on_status(status)
    assert slot.state is WorkerState.LOADING
    slot._on_status(replace(status, is_failing=True, message="OSError: disk full"))
    assert slot.state is WorkerState.READY
    assert slot.message == "1 running, 1 starting; one does not start: OSError: disk full"
    none = replace(status, is_failing=True, replicas={"STARTING": 2})
    slot._on_status(none)
    assert slot.state is WorkerState.RESTARTING


async def test_a_cluster_that_does_not_run_it_is_a_failed_load(
    slot: DeploymentSlot, host: ScriptedHost, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(order: ReplicaOrder) -> ScriptedHost:
        del order
        raise ClusterLost("gone")

    monkeypatch.setattr(host, "run", refuse)
    await slot.start()
    assert await owner.states.get() is WorkerState.FAILED


async def test_replicas_end_with_their_version_but_not_with_a_server_that_leaves(
    slot: DeploymentSlot, host: ScriptedHost, owner: Owner
) -> None:
    await ready(slot, owner)
    host.is_leaving = True
    await slot.stop()
    assert host.deleted == []
    host.is_leaving = False
    await slot.stop()
    assert host.deleted == [host.app_name]
