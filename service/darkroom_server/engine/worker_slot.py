"""One worker's place: its process, the jobs given to it, and its restarts. Loop-bound.

A job whose worker died is submitted again, with what was kept of it: it is fully described by its
spec, so the picture is the same and the caller notices nothing but time.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import replace
from typing import assert_never

import structlog

from darkroom_server.background import begin
from darkroom_server.domain.errors import DarkroomError, DeadlineExceeded
from darkroom_server.domain.jobs import (
    JobCompleted,
    JobEvent,
    JobImage,
    JobProgress,
    JobQueued,
)
from darkroom_server.domain.model_status import LoadProgress, LoadStage
from darkroom_server.domain.models import Dtype
from darkroom_server.engine.active_job import ActiveJob
from darkroom_server.engine.kept_images import KeptImages
from darkroom_server.engine.slot_contract import SlotOwner
from darkroom_server.engine.version_metrics import VersionMetrics
from darkroom_server.engine.worker_process import WorkerProcess
from darkroom_server.lifecycle.restarts import Restarts
from darkroom_server.lifecycle.worker_states import WorkerState
from darkroom_server.worker.messages import (
    CancelJob,
    ImagesSaved,
    JobFailed,
    JobReport,
    JobReports,
    Report,
    SubmitJob,
    WorkerFailed,
    WorkerLoading,
    WorkerReady,
    WorkerSpec,
    WorkerStats,
)

log = structlog.get_logger(__name__)

#: Hang time-out while loading, as a multiple of the normal one (compilation is silent).
LOAD_PATIENCE = 3.0
#: Jobs that get an event, or are submitted to the worker, before the event loop may run others.
SLICE_COUNT = 256


class WorkerSlot:
    """A worker and its jobs. What a dead worker had begun runs again here, one job by one."""

    #: Workers that it stands for, and what is to be said of them.
    width, note = 1, ""

    def __init__(
        self,
        number: int,
        spec: WorkerSpec,
        *,
        metrics: VersionMetrics,
        owner: SlotOwner,
        hang_limit_s: float,
        checkpoint_bytes: int = 0,
    ) -> None:
        self._number = number
        self._spec = spec
        self._kept_images = KeptImages(checkpoint_bytes)
        self._metrics = metrics
        self._owner = owner
        self._hang_limit_s = hang_limit_s
        self.state = WorkerState.LOADING
        #: Why, when RESTARTING or FAILED.
        self.message = ""
        self.memory_bytes = 0
        #: The worker's last statistics.
        self.stats = WorkerStats()
        #: How far it is, while LOADING.
        self.progress = LoadProgress(
            stage=LoadStage.STARTING, total_bytes=spec.version.weight_bytes
        )
        #: What the worker computes in, once it is loaded.
        self.dtype: Dtype | None = None
        self.made_by = ""
        self.jobs: dict[str, ActiveJob] = {}
        self._instance: WorkerProcess | None = None
        #: Jobs that were in progress when a worker died: they run one by one, so that the one that
        #: kills workers can be identified.
        self._suspects: list[str] = []
        #: Jobs to be submitted to the worker, and those that get their queue position without one.
        self._to_give: deque[str] = deque()
        self._to_position: deque[tuple[int, str]] = deque()
        self._restarts = Restarts()
        self._heard_s = 0.0
        self._restart: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The worker's process id."""
        return self._instance.pid if self._instance is not None else None

    async def start(self) -> None:
        """Starts the worker; returns before the model is loaded."""
        # Reports of an instance that was replaced must not reach its successor's jobs.
        instance: WorkerProcess | None = None

        def on_report(report: Report) -> None:
            if instance is self._instance:
                self._on_report(report)

        def on_exit(was_killed: bool) -> None:
            if instance is self._instance:
                self._on_exit(was_killed)

        self._heard_s = time.monotonic()
        try:
            spec = self._kept_images.given_to(self._spec)
            instance = WorkerProcess(spec, on_report=on_report, on_exit=on_exit)
            self._instance = instance
            await instance.start()
        except (OSError, EOFError) as error:
            if instance is None or instance is self._instance:
                self._on_not_started(error)
        else:
            self._restarts.started()

    async def stop(self) -> None:
        """Ends the worker; jobs still here are left to the owner."""
        by_force = self.state is not WorkerState.READY
        if self._restart is not None:
            self._restart.cancel()
        # Without an instance of its own nothing that the worker still says is heard.
        instance, self._instance = self._instance, None
        if instance is not None:
            await instance.stop(by_force=by_force)
        if self._closing is not None:
            await self._closing
        self._kept_images.close()
        self.memory_bytes = 0
        self.stats = WorkerStats()
        self._metrics.worker_gone(self._number)

    def submit(self, active: ActiveJob) -> None:
        """Takes a job, to run as soon as the worker can."""
        self.jobs[active.job.job_id] = active
        if self.state is not WorkerState.READY:
            self._await_worker(active)
            self._to_position.append((len(self.jobs) - 1, active.job.job_id))
            if len(self._to_position) == 1:
                self._send_some_positions()
        elif self._to_give:
            self._to_give.append(active.job.job_id)
        elif not self._suspects:
            self._give(active)

    def cancel(self, job_id: str) -> None:
        """Forgets a job and stops the work on it."""
        now_s = time.monotonic()
        self._metrics.job_stopped(self.jobs[job_id], now_s)
        if self._instance is not None:
            self._instance.send(CancelJob(job_id, since_s=now_s))
        self._forget(job_id)

    def release(self, *, waiting_only: bool) -> list[ActiveJob]:
        """Releases its jobs, or those that no worker has begun, for another slot."""
        kept = frozenset(self._suspects) if waiting_only else frozenset()
        released = [one for job_id, one in self.jobs.items() if job_id not in kept]
        for one in released:
            one.is_begun = False
            one.left_behind()
            del self.jobs[one.job.job_id]
        if not waiting_only:
            self._suspects.clear()
        return released

    def check_hang(self, now_s: float) -> None:
        """Kills a worker that has been silent for too long with jobs, or while it loads."""
        is_loading = self.state in (WorkerState.LOADING, WorkerState.RESTARTING)
        is_busy = is_loading or (self.state is WorkerState.READY and bool(self.jobs))
        limit_s = self._hang_limit_s * (LOAD_PATIENCE if is_loading else 1.0)
        if self._instance is None or not is_busy or limit_s <= 0:
            self._heard_s = now_s
        elif now_s - self._heard_s > limit_s:
            log.error("worker hangs", model=self._name(), silent_s=round(now_s - self._heard_s, 1))
            self._heard_s = now_s
            self._instance.kill()

    def _forget(self, job_id: str) -> None:
        """Takes a job out; the next suspect follows one that ran, after the last the others."""
        del self.jobs[job_id]
        if job_id in self._suspects:
            was_at_work = self._suspects[0] == job_id
            self._suspects.remove(job_id)
            if was_at_work and self.state is WorkerState.READY:
                self._give_next()

    def _end(self, job_id: str, completed: JobCompleted | None = None) -> None:
        self._forget(job_id)
        self._owner.job_ended(job_id, completed)

    def _give_next(self) -> None:
        """Hands the worker a suspect by itself, or everything."""
        self._to_position.clear()
        self._to_give = deque(self._suspects[:1] or self.jobs)
        self._give_some()

    def _give_some(self) -> None:
        """Hands over a slice of what is on its way, and the next when the loop comes round."""
        for _ in range(min(SLICE_COUNT, len(self._to_give))):
            if (active := self.jobs.get(self._to_give.popleft())) is not None:
                self._give(active)
        if self._to_give:
            asyncio.get_running_loop().call_soon(self._give_some)

    def _give(self, active: ActiveJob) -> None:
        active.give(time.monotonic())
        if self._instance is not None:
            self._instance.send(SubmitJob(active.job, active.is_promised, active.earlier()))

    def _await_worker(self, active: ActiveJob) -> None:
        active.is_promised = True
        active.wait(time.monotonic())

    def _send_some_positions(self) -> None:
        """Sends their queue positions to a slice of those that wait for a worker."""
        for _ in range(min(SLICE_COUNT, len(self._to_position))):
            ahead_count, job_id = self._to_position.popleft()
            if (active := self.jobs.get(job_id)) is not None:
                active.stream.put(JobQueued(ahead_count, model_loading=True))
        if self._to_position:
            asyncio.get_running_loop().call_soon(self._send_some_positions)

    def _on_report(self, report: Report) -> None:
        self._heard_s = time.monotonic()
        match report:
            case WorkerLoading(progress):
                self.progress = progress
                self._owner.slot_changed(self)
            case WorkerReady(memory_bytes, dtype, made_by):
                self.progress = replace(
                    self.progress,
                    stage=LoadStage.DONE,
                    loaded_bytes=self.progress.total_bytes,
                )
                self.memory_bytes, self.dtype, self.made_by = memory_bytes, dtype, made_by
                self._restarts.ready(time.monotonic())
                self._move(WorkerState.READY)
                self._give_next()
            case WorkerFailed(message, is_starved):
                self._give_up(message, is_starved=is_starved)
            case JobReport(job_id, event):
                self._on_event(job_id, event)
            case JobReports(reports):
                for one in reports:
                    self._on_event(one.job_id, one.event)
            case JobFailed(job_id, error):
                self._fail(job_id, error)
            case ImagesSaved():
                self._kept_images.note(report, self.jobs)
            case WorkerStats():
                self.stats = report
                self._metrics.worker_reported(self._number, report)
            case _:
                assert_never(report)

    def _fail(self, job_id: str, error: DarkroomError) -> None:
        if job_id in self.jobs:
            if isinstance(error, DeadlineExceeded):
                self._metrics.job_stopped(self.jobs[job_id], time.monotonic())
            self.jobs[job_id].stream.fail(error)
            if self._instance is not None:
                # Of a job whose image could not be encoded, others may still be made.
                self._instance.send(CancelJob(job_id))
            self._end(job_id)

    def _on_event(self, job_id: str, event: JobEvent) -> None:
        active = self.jobs.get(job_id)
        if active is None:
            return
        active.is_promised = True
        now_s = time.monotonic()
        if isinstance(event, JobCompleted):
            event = active.completed(event, now_s)
        active.stream.put(event)
        self._metrics.job_event(active, event, now_s)
        if isinstance(event, JobProgress):
            active.is_begun = True
        if isinstance(event, JobImage):
            active.made(event.image_index)
        if isinstance(event, JobCompleted):
            self._restarts.job_completed()
            self._end(job_id, event)

    def _on_exit(self, was_killed: bool) -> None:
        """The worker ended without a command to; `was_killed`: by a signal from outside."""
        self._to_give.clear()
        begun = [active for active in self.jobs.values() if active.is_begun]
        delay_s = self._restarts.died(time.monotonic(), was_at_work=bool(begun))
        self.memory_bytes = 0
        self.stats = WorkerStats()
        self._metrics.worker_gone(self._number)
        log.warning("worker died", model=self._name(), jobs_at_work=len(begun))
        self._suspect(begun, was_killed)
        if delay_s is None:
            self._give_up(f"The worker died {self._restarts.death_count} times in a row.")
            return
        self._metrics.worker_restarted()
        self._start_later(delay_s, "The worker died and is being restarted.")

    def _on_not_started(self, error: OSError | EOFError) -> None:
        """There is no process: nothing of the version has run, so that it is not to blame.

        The system may have no room for one now (files, processes, memory), or what starts them has
        ended of the same. It is tried again until there is.
        """
        if isinstance(error, EOFError | ConnectionError):
            why = "what starts workers has ended"
        else:
            why = error.strerror or str(error)
        log.error("worker not started", model=self._name(), problem=why)
        message = f"No process can be started for the worker ({why}); it is tried again."
        self._start_later(self._restarts.not_started(), message)

    def _start_later(self, delay_s: float, message: str) -> None:
        """Starts the worker again after a delay; its jobs wait for it."""
        self._restart = begin(
            "restart of a worker",
            self._start_again(delay_s),
            on_failure=lambda: self._give_up("The worker could not be started again."),
        )
        self._move(WorkerState.RESTARTING, message)
        for active in self.jobs.values():
            self._await_worker(active)
        self._to_position = deque((place, job_id) for place, job_id in enumerate(self.jobs))
        self._send_some_positions()

    def _suspect(self, begun: list[ActiveJob], was_killed: bool) -> None:
        """Marks the jobs that were in progress, and fails those that were too often."""
        self._suspects = [active.job.job_id for active in begun]
        for active in begun:
            active.died(was_killed=was_killed)
            if active.is_suspected:
                self._fail(active.job.job_id, active.given_up())

    async def _start_again(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        if self._instance is not None:
            await self._instance.stop(by_force=True)
        if self._closing is not None:
            await self._closing
        await self._kept_images.take_over(self.jobs.values())
        await self.start()

    def _give_up(self, message: str, *, is_starved: bool = False) -> None:
        """Ends the worker, and starts it again later if the machine had no room for it."""
        instance, self._instance = self._instance, None
        if instance is not None:
            self._closing = begin("end of a worker", instance.stop(by_force=True))
        delay_s = self._restarts.starved() if is_starved else None
        if delay_s is not None:
            log.error("worker starved", model=self._name(), reason=message)
            self._start_later(delay_s, f"{message} It is tried again.")
            return
        log.error("worker failed", model=self._name(), reason=message)
        self._move(WorkerState.FAILED, message)

    def _move(self, state: WorkerState, message: str = "") -> None:
        self.state, self.message = state, message
        self._owner.slot_changed(self)

    def _name(self) -> str:
        return f"{self._spec.version.model.name}/{self._spec.version.version}#{self._number}"
