"""Any order of loads, unloads, looks, crashes, labels and requests, on workers that are scripted.

The manager, the control, supervisors and slots are the real ones; only processes, files and the
clock's pauses are not.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from darkroom_server.domain.errors import DarkroomError, ModelNotFound, ModelUnavailable
from darkroom_server.domain.jobs import JobCompleted, JobProgress, JobTimings, Stage
from darkroom_server.domain.model_status import VersionState
from darkroom_server.domain.models import Dtype, ModelRef, UpdatePolicy, VersionInfo
from darkroom_server.engine import worker_slot as slot_module
from darkroom_server.engine.manager import Manager
from darkroom_server.engine.memory_gate import MemoryGate
from darkroom_server.engine.model_control import ControlOptions, ModelControl
from darkroom_server.engine.supervisor import Supervisor
from darkroom_server.lifecycle import restarts
from darkroom_server.lifecycle.resolution import resolve
from darkroom_server.lifecycle.worker_states import WorkerState
from darkroom_server.telemetry.metrics import Metrics
from darkroom_server.worker.messages import JobReport, Report, WorkerFailed, WorkerReady
from tests.unit.engine.scripted import NAME, Request, ScriptedProcess, ToldRepository

S = VersionState
VERSIONS = st.integers(1, 3)
LABELS = st.sampled_from(["stable", "canary"])
FIRST = st.integers(0, 5)


async def at_once(function: Callable[..., Any], *arguments: Any) -> Any:
    """Stands for `asyncio.to_thread`, so that nothing depends on threads."""
    return function(*arguments)


class Lifecycle(RuleBasedStateMachine):
    """What may happen to a model, in any order."""

    is_explicit = True
    policy = UpdatePolicy.AVAILABILITY

    def __init__(self) -> None:
        super().__init__()
        self.patches = pytest.MonkeyPatch()
        self.patches.setattr(slot_module, "WorkerProcess", ScriptedProcess)
        self.patches.setattr(restarts, "FIRST_RESTART_DELAY_S", 0.0)
        self.patches.setattr(asyncio, "to_thread", at_once)
        ScriptedProcess.running = []
        self.loop = asyncio.new_event_loop()
        self.requests: list[Request] = []
        self.job_count = 0
        self.tasks: list[asyncio.Task[Any]] = []

    def do(self, work: Awaitable[Any]) -> Any:
        """Does the work, and all that follows of it."""

        async def done() -> Any:
            result = await work
            for _ in range(40):
                await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(done())

    def begin(self, work: Awaitable[Any]) -> None:
        """Begins work whose end the machine does not wait for."""

        async def begun() -> None:
            self.tasks.append(asyncio.ensure_future(work))

        self.do(begun())

    @initialize()
    def start(self) -> None:
        async def make() -> None:
            metrics = Metrics()

            def supervise(version: VersionInfo, on_change: Callable[[], None]) -> Supervisor:
                return Supervisor(
                    version,
                    thread_count=1,
                    prompt_cache_bytes=0,
                    metrics=metrics,
                    on_change=on_change,
                    hang_limit_s=0.0,
                )

            self.repository = ToldRepository(self.policy)
            gate = MemoryGate(None)
            self.manager = Manager(
                supervise, gate=gate, retries=False, on_change=lambda: self.control.notify()
            )
            options = ControlOptions(is_explicit=self.is_explicit)
            self.control = ModelControl(options, self.repository, self.manager, gate)
            await self.control.start()
            self.control.begin()

        self.do(make())

    # What happens to the repository.

    @rule(number=VERSIONS, digest=st.sampled_from("ab"))
    def put_version(self, number: int, digest: str) -> None:
        self.repository.digests[number] = digest

    @rule(number=VERSIONS)
    def delete_version(self, number: int) -> None:
        self.repository.digests.pop(number, None)

    @rule()
    def look(self) -> None:
        self.do(self.control.scan())

    # What is asked for.

    @precondition(lambda self: self.is_explicit)
    @rule(version=st.sampled_from(["", "1", "2", "3", "canary"]), reload=st.booleans())
    def load(self, version: str, reload: bool) -> None:
        async def loaded() -> None:
            with contextlib.suppress(DarkroomError):
                async for _ in self.control.load(NAME, version, reload=reload):
                    pass

        self.begin(loaded())

    @precondition(lambda self: self.is_explicit)
    @rule(version=st.sampled_from(["", "1", "2", "stable"]), drain_s=st.sampled_from([None, 0.0]))
    def unload(self, version: str, drain_s: float | None) -> None:
        async def unloaded() -> None:
            with contextlib.suppress(DarkroomError):
                await self.control.unload(NAME, version, drain_s=drain_s)

        self.begin(unloaded())

    @rule(label=LABELS, number=VERSIONS)
    def move_label(self, label: str, number: int) -> None:
        async def moved() -> None:
            with contextlib.suppress(DarkroomError):
                status = await self.control.set_label(NAME, label, str(number))
                # Accepted is in force at once.
                [labelled] = [one for one in status.versions if label in one.labels]
                assert (labelled.version, labelled.state) == (number, S.READY)

        self.do(moved())

    @rule(label=LABELS)
    def delete_label(self, label: str) -> None:
        async def deleted() -> None:
            with contextlib.suppress(DarkroomError):
                status = await self.control.delete_label(NAME, label)
                assert not [one for one in status.versions if label in one.labels]

        self.do(deleted())

    @rule(version=st.sampled_from(["", "1", "2", "3", "stable"]))
    def ask(self, version: str) -> None:
        async def asked() -> None:
            self.job_count += 1
            try:
                model, number = resolve(self.manager.view, ModelRef(NAME, version))
            except (ModelNotFound, ModelUnavailable):
                return
            supervisor = self.manager.supervisor(NAME, number)
            if supervisor.state is S.FAILED:
                # Nothing else is there that could serve.
                assert S.READY not in {one.state for one in self.manager.live(NAME)} or version
                return
            self.requests.append(Request(f"job-{self.job_count}", supervisor))
            del model

        self.do(asked())

    # What workers do.

    @rule(first=FIRST)
    def become_ready(self, first: int) -> None:
        for worker in self.workers(first, lambda one: not one.is_ready):
            self.do(self.report(worker, WorkerReady(1, Dtype.FP32)))
            worker.is_ready = True

    @rule(first=FIRST)
    def fail_to_load(self, first: int) -> None:
        for worker in self.workers(first, lambda one: not one.is_ready):
            ready = {one for one in self.manager.live(NAME) if one.state is S.READY}
            self.do(self.report(worker, WorkerFailed("broken")))
            # A failed load takes nothing from what serves.
            assert {one for one in ready if one.state is S.READY} == ready

    @rule(first=FIRST)
    def die(self, first: int) -> None:
        for worker in self.workers(first, lambda _: True):
            worker.is_dead = True

            async def dies(worker: ScriptedProcess = worker) -> None:
                worker.die()

            self.do(dies())

    @rule(first=FIRST)
    def finish_a_request(self, first: int) -> None:
        for request in self.requests[first : first + 1]:
            self.finish(request)

    def workers(self, first: int, fits: Callable[[ScriptedProcess], bool]) -> list[ScriptedProcess]:
        """One worker that fits, or none."""
        alive = [one for one in self.alive() if fits(one)]
        return alive[first % len(alive) :][:1] if alive else []

    def alive(self) -> list[ScriptedProcess]:
        """Workers that run."""
        return [one for one in ScriptedProcess.running if not one.is_dead]

    async def report(self, worker: ScriptedProcess, report: Report) -> None:
        worker.say(report)

    def finish(self, request: Request) -> None:
        """The request ends with its picture, where its worker runs, and lets go."""

        async def finished() -> None:
            for worker in list(ScriptedProcess.running):
                if worker.is_ready and not worker.is_dead:
                    progress = JobProgress(stage=Stage.DENOISE)
                    completed = JobCompleted(image_count=1, timings=JobTimings())
                    worker.say(JobReport(request.job_id, progress))
                    worker.say(JobReport(request.job_id, completed))
            request.supervisor.cancel(request.job_id)
            request.supervisor.release()
            self.requests.remove(request)

        self.do(finished())

    # What is always true.

    @invariant()
    def what_a_request_holds_is_there(self) -> None:
        for request in self.requests:
            supervisor = request.supervisor
            # It only leaves under a request that an unload was told not to wait for, and only fails
            # one of which every worker was given up.
            was_told = supervisor._is_cut_off
            assert supervisor.state is not S.UNLOADED or was_told
            is_given_up = all(slot.state is WorkerState.FAILED for slot in supervisor._slots)
            assert request.error is None or was_told or is_given_up

    @invariant()
    def each_edition_is_loaded_once_and_every_process_belongs_to_one(self) -> None:
        if not hasattr(self, "manager"):
            return
        count = len(self.manager.supervisors())
        assert len(ScriptedProcess.running) <= count

    @invariant()
    def labels_and_the_default_lead_to_what_is_loaded(self) -> None:
        if not hasattr(self, "manager"):
            return
        for model in self.manager.view.models:
            states = {one.version: one.state for one in self.manager.status(model).versions}
            for number in model.info.version_labels.values():
                assert states[number] in (S.READY, S.LOADING, S.UNAVAILABLE, S.FAILED)
            if S.READY in states.values() and "stable" not in model.info.version_labels:
                served = [n for n in model.serving if states[n] is S.READY]
                assert not served or model.default_version == max(served)

    def teardown(self) -> None:
        """Whatever happened: every request ends, all can be unloaded, and no process is left."""
        try:
            if hasattr(self, "manager"):
                self.wind_up()
        finally:
            self.loop.close()
            self.patches.undo()

    def wind_up(self) -> None:
        while self.requests:
            for worker in list(ScriptedProcess.running):
                if not worker.is_ready and not worker.is_dead:
                    self.do(self.report(worker, WorkerReady(1, Dtype.FP32)))
                    worker.is_ready = True
            ended = [one for one in self.requests if one.error or one.supervisor.is_started]
            assert ended, "requests wait for what nobody starts"
            for request in ended:
                self.finish(request)
        self.repository.digests.clear()
        if self.is_explicit:
            self.begin(self.control.unload(NAME)) if self.manager.view.models else None
        else:
            self.do(self.control.scan())
        self.do(asyncio.sleep(0))
        assert [one.state for one in self.manager.supervisors()] == []
        assert ScriptedProcess.running == []
        for task in self.tasks:
            assert task.done(), task
            task.result()


class Following(Lifecycle):
    """A server that follows its repository."""

    is_explicit = False


class InPlace(Lifecycle):
    """A model whose old version leaves before the new one comes."""

    is_explicit = False
    policy = UpdatePolicy.RESOURCE


_SETTINGS = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestExplicit = Lifecycle.TestCase
TestFollowing = Following.TestCase
TestInPlace = InPlace.TestCase
TestExplicit.settings = TestFollowing.settings = TestInPlace.settings = _SETTINGS
