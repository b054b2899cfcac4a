"""Keeps one version of a model served: starts its worker, restarts it, and runs its jobs.

Loop-bound. A job whose worker died is submitted again: it is fully described by its spec, so the
picture is the same and the caller notices nothing but time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import structlog

from darkroom_server.domain.errors import (
    DeadlineExceeded,
    ModelUnavailable,
    QueueFull,
    WorkerLost,
)
from darkroom_server.domain.jobs import (
    Job,
    JobCompleted,
    JobEvent,
    JobImage,
    JobProgress,
    JobQueued,
)
from darkroom_server.domain.models import VersionInfo, VersionState, VersionStatus
from darkroom_server.engine.instance import Instance
from darkroom_server.engine.stream import JobStream
from darkroom_server.engine.version_metrics import VersionMetrics
from darkroom_server.telemetry.metrics import Metrics
from darkroom_server.worker.messages import (
    CancelJob,
    JobFailed,
    JobReport,
    Report,
    SubmitJob,
    WorkerFailed,
    WorkerReady,
    WorkerSpec,
    WorkerStats,
)

log = structlog.get_logger(__name__)

#: States in which jobs are taken: they run now, or as soon as a worker is up.
SERVING_STATES = (VersionState.LOADING, VersionState.READY, VersionState.UNAVAILABLE)
#: How often a job may be at work when its worker dies before it is held to be the cause.
MAX_JOB_ATTEMPTS = 3
#: Deaths in a row with no job at work, and without a job done or `STABLE_S` of service in between,
#: after which a version is given up.
MAX_DEATHS = 5
STABLE_S = 30.0
FIRST_RESTART_DELAY_S, MAX_RESTART_DELAY_S = 0.1, 10.0
#: What QUEUE_FULL advises before any job has been timed.
DEFAULT_JOB_S = 1.0


@dataclass(slots=True)
class _ActiveJob:
    job: Job
    stream: JobStream
    #: When it was admitted, on the monotonic clock.
    admitted_s: float
    #: Times that a worker died while it was at work on this.
    attempt_count: int = 0
    is_begun: bool = False


class Supervisor:
    """One version and its worker. `on_change` is called whenever its status changes."""

    def __init__(
        self,
        version: VersionInfo,
        *,
        thread_count: int,
        metrics: Metrics,
        on_change: Callable[[], None],
    ) -> None:
        self.version = version
        #: What it computes in: as configured until it is loaded, then as it is.
        self.dtype = version.model.dtype
        self._spec = WorkerSpec(version=version, thread_count=thread_count)
        self._on_change = on_change
        self._metrics = VersionMetrics(metrics, model=version.model.name, version=version.version)
        self._state = VersionState.LOADING
        self._message = ""
        self._memory_bytes = 0
        self._loaded_at_s: float | None = None
        self._instance: Instance | None = None
        self._jobs: dict[str, _ActiveJob] = {}
        #: Jobs that were at work when a worker died: they run one by one, so that the one that
        #: kills workers is told from its neighbours.
        self._suspects: list[str] = []
        self._death_count = 0
        self._restart_count = 0
        self._ready_since_s = 0.0
        self._job_s = DEFAULT_JOB_S
        self._restart: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def state(self) -> VersionState:
        """Where the version is in its life cycle."""
        return self._state

    @property
    def job_count(self) -> int:
        """Jobs admitted and not ended."""
        return len(self._jobs)

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, for tests and logs."""
        return self._instance.pid if self._instance is not None else None

    def status(self) -> VersionStatus:
        """How the version is doing now."""
        return VersionStatus(
            version=self.version.version,
            state=self._state,
            message=self._message,
            labels=self.version.labels,
            digest=self.version.digest,
            memory_bytes=self._memory_bytes,
            loaded_at_s=self._loaded_at_s,
            weight_bytes=self.version.weight_bytes,
        )

    async def start(self) -> None:
        """Starts the worker; returns before the model is loaded."""
        self._move(VersionState.LOADING)
        await self._start_instance()

    async def stop(self) -> None:
        """Ends the worker; jobs still here fail as unavailable."""
        by_force = self._state is not VersionState.READY
        self._move(VersionState.UNLOADING)
        if self._restart is not None:
            self._restart.cancel()
        self._fail_all()
        # Without an instance of its own nothing that the worker still says is heard.
        instance, self._instance = self._instance, None
        if instance is not None:
            await instance.stop(by_force=by_force)
        if self._closing is not None:
            await self._closing
        self._memory_bytes = 0
        self._metrics.worker_gone()
        self._move(VersionState.UNLOADED)

    def submit(self, job: Job) -> JobStream:
        """Admits a job, or raises QueueFull, ModelUnavailable or DeadlineExceeded."""
        self.require_room()
        now_s = time.monotonic()
        if job.deadline_s is not None and job.deadline_s <= now_s:
            raise DeadlineExceeded("The deadline had passed before the request was admitted.")
        active = _ActiveJob(job, JobStream(), now_s)
        self._jobs[job.job_id] = active
        if self._state is not VersionState.READY:
            self._tell_loading(active)
        elif not self._suspects:
            self._give(active)
        return active.stream

    def require_room(self) -> None:
        """Raises QueueFull or ModelUnavailable when a job would not be admitted now."""
        if self._state not in SERVING_STATES:
            raise self._unavailable()
        limit = self.version.model.max_queue_size
        if len(self._jobs) >= limit:
            raise QueueFull(
                f"{len(self._jobs)} requests are running or waiting; the limit is {limit}.",
                retry_after_s=max(0.1, self._job_s),
            )

    def cancel(self, job_id: str) -> None:
        """Forgets a job and stops the work on it; unknown ids are ignored."""
        if job_id in self._jobs:
            if self._instance is not None:
                self._instance.send(CancelJob(job_id))
            self._forget(job_id)

    def _forget(self, job_id: str) -> None:
        """Takes a job out; the next suspect follows the one at work, after the last the others."""
        del self._jobs[job_id]
        if job_id in self._suspects:
            was_at_work = self._suspects[0] == job_id
            self._suspects.remove(job_id)
            if was_at_work and self._state is VersionState.READY:
                self._give_next()

    def _give_next(self) -> None:
        """Hands the worker a suspect by itself, or everything."""
        wanted = self._suspects[:1] or tuple(self._jobs)
        for job_id in wanted:
            self._give(self._jobs[job_id])

    def _give(self, active: _ActiveJob) -> None:
        active.is_begun = False
        if self._instance is not None:
            self._instance.send(SubmitJob(active.job))

    def _tell_loading(self, active: _ActiveJob) -> None:
        ahead_count = list(self._jobs).index(active.job.job_id)
        active.stream.put(JobQueued(ahead_count, model_loading=True))

    async def _start_instance(self) -> None:
        # Reports of an instance that was replaced must not reach its successor's jobs.
        instance: Instance | None = None

        def on_report(report: Report) -> None:
            if instance is self._instance:
                self._on_report(report)

        def on_exit() -> None:
            if instance is self._instance:
                self._on_exit()

        instance = Instance(self._spec, on_report=on_report, on_exit=on_exit)
        self._instance = instance
        try:
            await instance.start()
        except (OSError, EOFError):
            log.exception("worker not started", model=self._name())
            on_exit()

    def _on_report(self, report: Report) -> None:
        match report:
            case WorkerReady(memory_bytes, dtype):
                self._memory_bytes, self.dtype = memory_bytes, dtype
                self._loaded_at_s = time.time()
                self._ready_since_s = time.monotonic()
                self._move(VersionState.READY)
                self._give_next()
            case WorkerFailed(message):
                self._give_up(message)
            case JobReport(job_id, event):
                self._on_event(job_id, event)
            case JobFailed(job_id, error):
                if job_id in self._jobs:
                    self._jobs[job_id].stream.fail(error)
                    self._forget(job_id)
            case WorkerStats():
                self._metrics.worker_told(report)
            case _:
                assert_never(report)

    def _on_event(self, job_id: str, event: JobEvent) -> None:
        active = self._jobs.get(job_id)
        if active is None:
            return
        active.stream.put(event)
        if isinstance(event, JobProgress) and not active.is_begun:
            active.is_begun = True
            if active.attempt_count == 0:
                self._metrics.job_begun(time.monotonic() - active.admitted_s)
        if isinstance(event, JobImage):
            self._metrics.image_made(len(event.content))
        if isinstance(event, JobCompleted):
            self._forget(job_id)
            self._death_count = self._restart_count = 0
            self._job_s = 0.8 * self._job_s + 0.2 * event.timings.total_s

    def _on_exit(self) -> None:
        """The worker is gone without being told to go."""
        if self._state not in SERVING_STATES:
            return
        was_ready = self._state is VersionState.READY
        if was_ready and time.monotonic() - self._ready_since_s >= STABLE_S:
            self._death_count = self._restart_count = 0
        begun = [active for active in self._jobs.values() if active.is_begun]
        self._death_count += not begun
        self._restart_count += 1
        self._memory_bytes, self._loaded_at_s = 0, None
        self._metrics.worker_gone()
        log.warning("worker died", model=self._name(), jobs_at_work=len(begun))
        self._move(VersionState.UNAVAILABLE, "The worker died and is being restarted.")
        self._suspect(begun)
        if self._death_count >= MAX_DEATHS:
            self._give_up(f"The worker died {self._death_count} times in a row.")
            return
        for active in self._jobs.values():
            self._tell_loading(active)
        self._metrics.worker_restarted()
        delay_s = min(MAX_RESTART_DELAY_S, FIRST_RESTART_DELAY_S * 2.0 ** (self._restart_count - 1))
        self._restart = asyncio.create_task(self._start_again(delay_s))

    def _suspect(self, begun: list[_ActiveJob]) -> None:
        """Marks the jobs that were at work, and gives up on one that was too often."""
        self._suspects = [active.job.job_id for active in begun]
        for active in begun:
            active.is_begun = False
            active.attempt_count += 1
            if active.attempt_count >= MAX_JOB_ATTEMPTS:
                active.stream.fail(
                    WorkerLost(f"The worker died {MAX_JOB_ATTEMPTS} times while it ran this.")
                )
                self._forget(active.job.job_id)

    async def _start_again(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        if self._instance is not None:
            await self._instance.stop(by_force=True)
        await self._start_instance()

    def _give_up(self, message: str) -> None:
        log.error("model failed", model=self._name(), reason=message)
        self._move(VersionState.FAILED, message)
        self._fail_all()
        instance, self._instance = self._instance, None
        if instance is not None:
            self._closing = asyncio.create_task(instance.stop(by_force=True))

    def _fail_all(self) -> None:
        for active in self._jobs.values():
            active.stream.fail(self._unavailable())
        self._jobs.clear()
        self._suspects.clear()

    def _unavailable(self) -> ModelUnavailable:
        name = self.version.model.name
        why = f": {self._message}" if self._message else "."
        return ModelUnavailable(name, f"Model {self._name()} is {self._state.value}{why}")

    def _name(self) -> str:
        return f"{self.version.model.name}/{self.version.version}"

    def _move(self, state: VersionState, message: str = "") -> None:
        self._state, self._message = state, message
        log.info("model", model=self._name(), state=state.value)
        self._on_change()
