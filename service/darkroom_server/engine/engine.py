"""A request becomes a job: admission, lease on a version, submission. Bound to one event loop."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from darkroom_server.background import keep_going
from darkroom_server.domain.adapters import AdapterVersion
from darkroom_server.domain.errors import DarkroomError, Draining
from darkroom_server.domain.jobs import ImageSpec, Job, JobCompleted, JobEvent, Task
from darkroom_server.domain.model_status import ModelStatus, all_ready
from darkroom_server.domain.models import BackendKind, ModelInfo, ModelRef, VersionInfo
from darkroom_server.engine.active_job import ActiveJob
from darkroom_server.engine.manager import Manager
from darkroom_server.engine.memory import MemoryProbe
from darkroom_server.engine.memory_gate import MemoryGate
from darkroom_server.engine.model_control import ControlOptions, ModelControl
from darkroom_server.engine.stream import JobStream
from darkroom_server.engine.supervisor import SlotMaker, Supervisor
from darkroom_server.engine.undelivered import Undelivered
from darkroom_server.engine.worker_process import prepare_fork_server
from darkroom_server.lifecycle.resolution import resolve, resolve_model
from darkroom_server.repository.location import open_repository
from darkroom_server.repository.remote_repository import RemoteLocation
from darkroom_server.requests.prompt_upsampling import PromptRewriters
from darkroom_server.telemetry.inference_statistics import InferenceStatistics, RunningRequest
from darkroom_server.telemetry.metrics import Metrics
from darkroom_server.worker.messages import WorkerStats

log = structlog.get_logger(__name__)

#: Retry delay sent to a caller, before it tries another server.
DRAINING_RETRY_S = 1.0
#: Interval of the check for workers that hang.
WATCH_INTERVAL_S = 0.5


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Where the models are, and how many threads each worker computes with, by worker count.

    A worker keeps up to `prompt_cache_bytes` of prompt embeddings, and up to `checkpoint_bytes` of
    unfinished images for its successor if it dies. A worker that has work and is silent for
    `hang_limit_s` is ended; 0: never. `aliases` are names by which models may be
    requested besides their own, and `default_model` is for requests that name none.
    Without `memory` it is not checked whether models fit into memory.
    Up to `undelivered_bytes` of results wait to be read, half of it for one call. `make_slots`:
    what runs jobs where that is not workers of this machine.
    """

    model_repository: Path | RemoteLocation
    threads_per_worker: Callable[[int], int]
    prompt_cache_bytes: int = 0
    checkpoint_bytes: int = 0
    hang_limit_s: float = 0.0
    control: ControlOptions = field(default_factory=ControlOptions)
    aliases: Mapping[str, str] = field(default_factory=dict)
    default_model: str = ""
    memory: MemoryProbe | None = None
    undelivered_bytes: int = 512 << 20
    make_slots: SlotMaker | None = None


class Session:
    """A lease on one version of a model, for one request. Leaving it cancels what still runs."""

    def __init__(
        self,
        engine: Engine,
        supervisor: Supervisor,
        adapters: tuple[AdapterVersion, ...],
        counted: RunningRequest,
    ) -> None:
        #: Of the model, as its folder has them now.
        self.adapters = adapters
        self._counted = counted
        self.job_id = uuid.uuid4().hex
        self.model: ModelInfo = supervisor.version.model
        self.version = supervisor.version.version
        self.digest = supervisor.version.digest
        self.dtype, self.made_by = supervisor.dtype, supervisor.made_by
        self._engine = engine
        self._supervisor = supervisor
        self._stream: JobStream | None = None

    def require_room(self) -> None:
        """Raises what `submit` would, as far as it is known without the request.

        Saves decoding the images of a request that is going to be refused.
        """
        if self._engine.is_draining():
            raise draining()
        self._supervisor.require_room()

    async def submit(
        self,
        spec: ImageSpec,
        *,
        deadline_s: float | None,
        caller: str = "",
        weight: float = 1.0,
        is_collected: bool = False,
        is_traced: bool = False,
    ) -> None:
        """Admits the job, or raises QueueFull, Draining, ModelUnavailable, DeadlineExceeded.

        `deadline_s` is on `time.monotonic()`. With one, the worker is asked whether it can be met.
        `caller` is among whom the device is shared, by `weight`. Images that are collected count as
        unread until the session ends.
        """
        if self._engine.is_draining():
            raise draining()
        job = Job(
            job_id=self.job_id,
            spec=spec,
            deadline_s=deadline_s,
            caller=caller,
            weight=weight,
            is_traced=is_traced,
        )
        self._stream = self._supervisor.submit(job)
        self._stream.bound(
            self._engine.undelivered,
            lambda: self._supervisor.cancel(self.job_id),
            is_collected=is_collected,
        )
        if deadline_s is not None:
            await self._stream.begun()

    def events(self) -> AsyncIterator[JobEvent]:
        """The job's events, JobCompleted last; raises its error, or RuntimeError without a job."""
        if self._stream is None:
            raise RuntimeError("submit() comes first")
        return self._stream

    def count(self, completed: JobCompleted) -> None:
        """Notes for the statistics that the request was a success."""
        self._counted.completed = completed

    @property
    def dropped_count(self) -> int:
        """Progress and previews that the reader of `events` was too slow for."""
        return self._stream.dropped_count if self._stream is not None else 0

    def progress(self) -> tuple[int, int]:
        """Denoising steps that the job has done, of how many; (0, 0) before any is known."""
        return self._stream.progress if self._stream is not None else (0, 0)

    def close(self, reason: Draining | None = None) -> None:
        """Stops the work, if any is left; a reason is raised for the reader of `events`."""
        self._supervisor.cancel(self.job_id)
        if self._stream is None:
            return
        if reason is not None:
            self._stream.fail(reason)
        else:
            self._stream.close()


class Engine:
    """All models of a repository, and the requests that run on them."""

    def __init__(self, options: EngineOptions, metrics: Metrics) -> None:
        self._options = options
        self._metrics = metrics
        control = options.control
        repository = open_repository(
            options.model_repository, options.aliases, settle_s=control.settle_s
        )
        gate = MemoryGate(options.memory)
        self._manager = Manager(
            self._supervise,
            gate=gate,
            retries=control.poll_s > 0,
            default_model=options.default_model,
            on_change=self._notify,
        )
        #: Loads, unloads and labels on request.
        self.control = ModelControl(control, repository, self._manager, gate)
        #: What became of the requests of each version.
        self.statistics = InferenceStatistics()
        #: What the sessions have made and their callers have not read.
        self.undelivered = Undelivered(
            max_bytes=options.undelivered_bytes, max_call_bytes=options.undelivered_bytes // 2
        )
        #: What rewrites the prompts of models whose configs say so.
        self.prompt_rewriters = PromptRewriters()
        self._sessions: set[Session] = set()
        self._listeners: list[Callable[[], None]] = []
        self._watches: list[asyncio.Task[None]] = []
        self._leaving = False
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Reads the repository and starts loading what should serve; does not wait for it."""
        models = (await self.control.start()).models
        if self._options.make_slots is None:
            prepare_fork_server(
                preload_torch=any(one.info.backend is BackendKind.DIFFUSERS for one in models)
            )
        self.control.begin()
        self._check_default_model()
        log.info("models found", count=len(models))
        self._watches = [
            keep_going("watch over workers", self._watch_workers),
            keep_going("watch over the repository", self.control.watch),
        ]

    def _check_default_model(self) -> None:
        """Says at once that requests which name no model are going to be refused."""
        scan = self._manager.scan
        if not self._options.default_model or scan.fetching or scan.is_unfinished:
            return
        try:
            resolve_model(scan, self._options.default_model)
        except DarkroomError as error:
            log.error("default model cannot be used", problem=str(error))

    def _supervise(self, version: VersionInfo, on_change: Callable[[], None]) -> Supervisor:
        """What serves a version; its workers share the threads with all others."""
        worker_count = sum(
            len(one.model.placements)
            for model in self._manager.scan.models
            for one in model.versions
            if one.version in model.serving
        )
        return Supervisor(
            version,
            thread_count=self._options.threads_per_worker(worker_count),
            prompt_cache_bytes=self._options.prompt_cache_bytes,
            checkpoint_bytes=self._options.checkpoint_bytes,
            metrics=self._metrics,
            on_change=on_change,
            hang_limit_s=self._options.hang_limit_s,
            make_slots=self._options.make_slots,
        )

    async def _watch_workers(self) -> None:
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            for supervisor in self._manager.supervisors():
                supervisor.check_hang(time.monotonic())

    async def scanned(self) -> None:
        """Waits until the repository has been read: before that no name of a model is known."""
        await self.control.begun()

    @asynccontextmanager
    async def open(
        self, ref: ModelRef, task: Task, *, request_id: str = ""
    ) -> AsyncIterator[Session]:
        """Leases a version; raises ModelNotFound, ModelUnavailable, Draining.

        Waits for the repository to be read: until then no model is known, and none is unknown.
        The version of a request that names none may depend on its id, and on nothing else.
        """
        await self.scanned()
        if self._draining:
            raise draining()
        model, version = resolve(self._manager.view, ref, task, request_id)
        supervisor = self._manager.supervisor(model.info.name, version)
        counting = self.statistics.request(model.info.name, version)
        session = Session(self, supervisor, model.adapters, counting)
        self._sessions.add(session)
        supervisor.acquire()
        self._idle.clear()
        try:
            with counting:
                yield session
        finally:
            session.close()
            supervisor.release()
            self._sessions.discard(session)
            if not self._sessions:
                self._idle.set()

    def list_models(self) -> tuple[ModelStatus, ...]:
        """Every model of the repository, by name."""
        return tuple(self._manager.status(model) for model in self._manager.view.models)

    def get_model(self, name: str) -> ModelStatus:
        """One model by name, `models/` name, hub id or alias.

        Raises ModelNotFound; ModelUnavailable for a folder that is no valid model.
        """
        return self._manager.status(resolve_model(self._manager.view, name))

    def worker_pids(self) -> tuple[int, ...]:
        """Process ids of the workers that run now."""
        return tuple(pid for one in self._manager.supervisors() for pid in one.worker_pids)

    def active_jobs(self) -> Iterator[tuple[ActiveJob, WorkerStats]]:
        """The jobs that workers have, each with its worker's last event."""
        return (each for one in self._manager.supervisors() for each in one.active_jobs)

    def counts(self) -> tuple[int, int]:
        """Jobs that have not ended, and workers."""
        supervisors = self._manager.supervisors()
        jobs = sum(one.job_count for one in supervisors)
        return jobs, sum(one.worker_count for one in supervisors)

    def is_ready(self) -> bool:
        """Whether there are models that should serve, all of them do, and will for now."""
        is_whole = not self._manager.scan.fetching
        return is_whole and all_ready(self.list_models()) and not self._leaving

    def is_draining(self) -> bool:
        """Whether the server is about to stop."""
        return self._draining

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Calls `listener` on the event loop whenever a model's status changes."""
        self._listeners.append(listener)

    def _notify(self) -> None:
        self.control.notify()
        for listener in self._listeners:
            listener()

    def is_leaving(self) -> bool:
        """Whether health checks should send callers elsewhere; true before draining begins."""
        return self._leaving

    def announce_drain(self) -> None:
        """Reports not ready from now on, while requests are still taken."""
        self._leaving = True
        self._notify()

    def begin_drain(self) -> None:
        """Refuses new requests from now on."""
        self._leaving = self._draining = True
        self._notify()

    async def finish_drain(self, timeout_s: float) -> None:
        """Waits for the requests that run, then ends the rest with Draining."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            log.warning("requests cut off", count=len(self._sessions))
            for session in tuple(self._sessions):
                session.close(draining())

    async def stop(self) -> None:
        """Ends all workers."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await self.control.stop()
        await self._manager.stop()
        await self.control.close()


def draining() -> Draining:
    """The answer to requests of a server that is about to stop."""
    return Draining("The server is shutting down.", retry_after_s=DRAINING_RETRY_S)
