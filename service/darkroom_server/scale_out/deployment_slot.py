"""The slot of a version whose workers are replicas of a Ray Serve application. Loop-bound.

A job whose replica was lost is sent to another: it is fully described by its spec, so the picture
is the same and the caller notices nothing but time. One that a replica refuses because it has no
time or no room for it is offered to the others before it is refused.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import structlog

from darkroom_server.background import begin
from darkroom_server.domain.errors import (
    DarkroomError,
    DeadlineExceeded,
    QueueFull,
    ReplicasLost,
    WorkerLost,
)
from darkroom_server.domain.jobs import JobCompleted, JobEvent, JobProgress, JobQueued
from darkroom_server.domain.model_status import LoadProgress, LoadStage
from darkroom_server.domain.models import Dtype
from darkroom_server.engine.active_job import MAX_JOB_ATTEMPTS, ActiveJob
from darkroom_server.engine.slot_contract import SlotOwner
from darkroom_server.engine.version_metrics import VersionMetrics
from darkroom_server.lifecycle.worker_states import WorkerState
from darkroom_server.scale_out.load_table import drop_table, table_of
from darkroom_server.scale_out.messages import JobNews, ReplicaState, RunJob
from darkroom_server.scale_out.options import ReplicaOrder
from darkroom_server.scale_out.replicas import (
    AppStatus,
    ClusterLost,
    JobCall,
    ReplicaHost,
    ReplicaLost,
    Replicas,
)
from darkroom_server.worker.messages import WorkerStats

log = structlog.get_logger(__name__)

POLL_S = 0.5
#: Pauses before a job is sent again that no replica took.
FIRST_PAUSE_S, MAX_PAUSE_S = 0.1, 2.0
#: A job that no replica has taken for this long, in a cluster that cannot be reached, fails.
LOST_LIMIT_S = 60.0
#: Retry delay sent to the caller then.
RETRY_AFTER_S = 5.0


@dataclass(slots=True, eq=False)
class _Flight:
    """A job on its way: who has refused or lost it, and since when nobody has had it."""

    active: ActiveJob
    task: asyncio.Task[None] | None = None
    call: JobCall | None = None
    avoided: set[str] = field(default_factory=set)
    refusal: DarkroomError | None = None
    lost_since_s: float | None = None
    #: Whether it is to be sent elsewhere, because its replica takes no more jobs.
    is_moved: bool = False


class DeploymentSlot:
    """All replicas of a version, and the jobs that this server has given them."""

    def __init__(
        self,
        order: ReplicaOrder,
        cluster: ReplicaHost,
        *,
        metrics: VersionMetrics,
        owner: SlotOwner,
    ) -> None:
        self._order = order
        self._cluster = cluster
        self._metrics = metrics
        self._owner = owner
        self.state = WorkerState.LOADING
        self.message = ""
        self.memory_bytes = 0
        self.stats = WorkerStats()
        weight_bytes = order.version.weight_bytes
        self.progress = LoadProgress(stage=LoadStage.STARTING, total_bytes=weight_bytes)
        self.dtype: Dtype | None = None
        self.made_by = ""
        self.jobs: dict[str, ActiveJob] = {}
        self.status = AppStatus()
        self._flights: dict[str, _Flight] = {}
        self._replicas: Replicas | None = None
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.Task[None] | None = None
        self._numbers: dict[str, int] = {}
        self._table = table_of(order.app_name)
        self._table.on_gone = self._on_gone

    @property
    def width(self) -> int:
        """Replicas that take jobs."""
        return max(1, self.status.running_count)

    @property
    def pid(self) -> int | None:
        """None of this machine."""
        return None

    @property
    def note(self) -> str:
        """How many replicas there are, and the work of each that has reported it."""
        known = [
            f"{one.replica_id} on node {one.node_id[:8]}: {one.work_s:.1f} s of work"
            for one in self._table.states()
        ]
        return "; ".join((f"replicas: {self.status.summary}", *known))

    async def start(self) -> None:
        """Has Serve start replicas, and follows how they are."""
        try:
            self._replicas = await asyncio.to_thread(self._cluster.run, self._order)
        except ClusterLost as error:
            log.error("replicas not started", app=self._order.app_name, problem=str(error))
            self._move(WorkerState.FAILED, "Ray does not run its replicas; the log has the cause.")
            return
        self._watch = begin("watch over replicas", self._follow())

    async def stop(self) -> None:
        """Ends the replicas, unless the server leaves a cluster that goes on."""
        if self._watch is not None:
            self._watch.cancel()
        for job_id in tuple(self._flights):
            self._drop(job_id)
        if self._replicas is not None and not self._cluster.is_leaving:
            try:
                await asyncio.to_thread(self._cluster.delete, self._order.app_name)
            except ClusterLost as error:
                log.warning("replicas not ended", app=self._order.app_name, problem=str(error))
        drop_table(self._order.app_name)

    def submit(self, active: ActiveJob) -> None:
        """Takes a job; it is sent once there are replicas."""
        self.jobs[active.job.job_id] = active
        self._flights[active.job.job_id] = flight = _Flight(active)
        if self.state is WorkerState.READY:
            self._send(flight)
        else:
            self._await_replicas(flight)

    def cancel(self, job_id: str) -> None:
        """Forgets a job and stops the work on it."""
        self.jobs.pop(job_id, None)
        self._drop(job_id)

    def release(self, *, waiting_only: bool) -> list[ActiveJob]:
        """Gives up its jobs; there is no other slot that some could wait for."""
        if waiting_only:
            return []
        released = list(self.jobs.values())
        for active in released:
            self.cancel(active.job.job_id)
            active.is_begun = False
        return released

    def check_hang(self, now_s: float) -> None:
        """Replicas look after their workers themselves."""

    def _send(self, flight: _Flight) -> None:
        flight.active.give(time.monotonic())
        failed = WorkerLost("The server failed on what a replica said; its log has the cause.")
        flight.task = begin(
            "job at a replica", self._run(flight), on_failure=lambda: self._fail(flight, failed)
        )

    def _drop(self, job_id: str) -> None:
        flight = self._flights.pop(job_id, None)
        if flight is None:
            return
        if flight.call is not None:
            flight.call.cancel()
        if flight.task is not None:
            flight.task.cancel()
        self._table.ended(job_id)

    def _await_replicas(self, flight: _Flight) -> None:
        active = flight.active
        active.is_promised = True
        active.wait(time.monotonic())
        active.stream.put(JobQueued(len(self.jobs) - 1, model_loading=True))

    async def _run(self, flight: _Flight) -> None:
        """Sends a job until it has ended, here or there."""
        job_id, pause_s = flight.active.job.job_id, FIRST_PAUSE_S
        while job_id in self._flights:
            flight.is_moved = False
            lost = await self._try(flight)
            where = self._table.where(job_id)
            self._table.ended(job_id)
            if job_id not in self._flights:
                return
            if lost and not self._goes_on(flight, lost, where):
                return
            if lost:
                await asyncio.sleep(pause_s)
                pause_s = min(MAX_PAUSE_S, 2 * pause_s)

    async def _try(self, flight: _Flight) -> str:
        """Has one replica run a job; why it was lost, empty when it was not."""
        assert self._replicas is not None
        flight.call = call = self._replicas.send(self._request(flight))
        is_over = False
        try:
            async with aclosing(call.news()) as events:
                async for news in events:
                    is_over = self._on_news(flight, news)
                    if is_over:
                        break
        except ReplicaLost as error:
            return "" if flight.is_moved else str(error)
        except asyncio.CancelledError:
            # That of the call, when the job is to go elsewhere.
            if not flight.is_moved:
                raise
        finally:
            flight.call = None
            if not is_over:
                call.cancel()
        return "" if is_over or flight.is_moved else "its replica said no end"

    def _request(self, flight: _Flight) -> RunJob:
        job = flight.active.job
        left_s = None if job.deadline_s is None else job.deadline_s - time.monotonic()
        return RunJob(
            job=replace(job, deadline_s=None),
            left_s=left_s,
            is_promised=flight.active.is_promised,
            avoided=frozenset(flight.avoided),
        )

    def _goes_on(self, flight: _Flight, lost: str, where: str | None) -> bool:
        """After a loss: the job is sent again, unless it counts as the cause."""
        active, now_s = flight.active, time.monotonic()
        job_id = active.job.job_id
        log.warning("job lost with its replica", job_id=job_id, replica=where, problem=lost)
        if where is not None:
            flight.avoided.add(where)
        flight.lost_since_s = flight.lost_since_s or now_s
        active.attempt_count += active.is_begun
        active.is_begun = False
        if active.attempt_count >= MAX_JOB_ATTEMPTS:
            text = f"The replica died {MAX_JOB_ATTEMPTS} times while it ran this."
            self._fail(flight, WorkerLost(text))
        elif active.job.deadline_s is not None and active.job.deadline_s <= now_s:
            self._fail(flight, DeadlineExceeded("The deadline passed."))
        elif now_s - flight.lost_since_s > LOST_LIMIT_S:
            text = "No replica of the model can be reached."
            self._fail(flight, ReplicasLost(text, retry_after_s=RETRY_AFTER_S))
        else:
            return True
        return False

    def _on_news(self, flight: _Flight, news: JobNews) -> bool:
        """Passes on what a replica says of a job; whether it is done with it."""
        if news.state is not None:
            self._on_state(news.state)
        for event in news.events:
            self._on_event(flight, event)
        if flight.active.job.job_id not in self._flights:
            return True
        if news.error is None:
            return False
        if self._is_for_others(flight, news.error):
            # Sent on by `_run`.
            flight.is_moved = True
        else:
            self._fail(flight, flight.refusal or news.error)
        return True

    def _is_for_others(self, flight: _Flight, error: DarkroomError) -> bool:
        """Whether a replica refused what another may take."""
        is_refusal = isinstance(error, QueueFull | DeadlineExceeded)
        where = self._table.where(flight.active.job.job_id)
        deadline_s = flight.active.job.deadline_s
        if not is_refusal or where is None or flight.active.is_promised:
            return False
        if time.monotonic() >= (math.inf if deadline_s is None else deadline_s):
            return False
        flight.refusal = flight.refusal or error
        flight.avoided.add(where)
        return self._table.is_offered(flight.active.job.job_id, flight.avoided)

    def _on_event(self, flight: _Flight, event: JobEvent) -> None:
        active = flight.active
        active.is_promised, flight.lost_since_s = True, None
        job_id = active.job.job_id
        if isinstance(event, JobCompleted):
            event = active.completed(event, time.monotonic())
        active.stream.put(event)
        self._metrics.job_event(active, event, time.monotonic())
        match event:
            case JobProgress(completed_step_count=done, total_step_count=total):
                active.is_begun = True
                if total:
                    self._table.progressed(job_id, 1 - done / total)
            case JobCompleted():
                self._end(flight, event)

    def _on_state(self, state: ReplicaState) -> None:
        known = self._table.note_report(state)
        if known is state:
            return
        self.stats, self.dtype, self.made_by = state.stats, state.dtype, state.made_by
        self.memory_bytes = sum(one.memory_bytes for one in self._table.states())
        number = self._numbers.setdefault(state.replica_id, len(self._numbers))
        if known is not None and known.stats.step_count > state.stats.step_count:
            # Its worker was started again, and counts from zero.
            self._metrics.worker_gone(number)
        self._metrics.worker_reported(number, state.stats)

    def _end(self, flight: _Flight, completed: JobCompleted | None) -> None:
        job_id = flight.active.job.job_id
        self._flights.pop(job_id, None)
        self.jobs.pop(job_id, None)
        self._table.ended(job_id)
        self._owner.job_ended(job_id, completed)

    def _fail(self, flight: _Flight, error: DarkroomError) -> None:
        flight.active.stream.fail(error)
        self._end(flight, None)

    def _on_gone(self, gone: frozenset[str]) -> None:
        """Any thread: replicas take no more jobs, because they died or are about to end."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._move_from, gone)

    def _move_from(self, gone: frozenset[str]) -> None:
        """Sends elsewhere what such a replica has not begun; what it has begun it ends."""
        for job_id, flight in tuple(self._flights.items()):
            if flight.call is None or flight.active.is_begun:
                continue
            if self._table.where(job_id) in gone:
                flight.is_moved = True
                flight.call.cancel()
        for one in gone:
            if one in self._numbers:
                self._metrics.worker_gone(self._numbers[one])

    async def _follow(self) -> None:
        """Polls Serve for the status of the replicas."""
        while True:
            try:
                status = await asyncio.to_thread(self._cluster.status, self._order.app_name)
                if self.dtype is None and status.running_count and self._replicas is not None:
                    # The first request's `accepted` says what computes it, too.
                    self._on_state(await self._replicas.state())
            except (ClusterLost, ReplicaLost) as error:
                log.warning("cluster does not answer", problem=str(error))
            else:
                self._on_status(status)
            await asyncio.sleep(POLL_S)

    def _on_status(self, status: AppStatus) -> None:
        known, self.status = self.status, status
        message, wanted = status.summary, status.target_count
        if status.has_failed and not status.running_count:
            self._move(WorkerState.FAILED, status.message or "Serve gave it up.")
        elif self.state is WorkerState.READY:
            if status.running_count or (status.is_there and not wanted):
                if known.replicas != status.replicas:
                    self._move(WorkerState.READY, message)
            else:
                self._move(WorkerState.RESTARTING, f"No replica runs ({message}).")
        elif status.is_there and status.running_count >= self._share(wanted):
            self.progress = replace(
                self.progress, stage=LoadStage.DONE, loaded_bytes=self.progress.total_bytes
            )
            self._move(WorkerState.READY, message)
            for flight in tuple(self._flights.values()):
                if flight.task is None:
                    self._send(flight)

    def _share(self, wanted: int) -> int:
        """Replicas with which the version serves: all at first, then any, or where some fail."""
        if self.state is WorkerState.RESTARTING or self.status.is_failing:
            return min(1, wanted)
        return max(wanted, self._order.replica_count(self._cluster.options))

    def _move(self, state: WorkerState, message: str = "") -> None:
        self.state, self.message = state, message
        log.info("replicas", app=self._order.app_name, state=state.value, message=message)
        self._owner.slot_changed(self)
