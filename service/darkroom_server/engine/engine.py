"""A request becomes a job: admission, lease on a version, submission. Bound to one event loop."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from darkroom_server.domain.errors import Draining, ModelUnavailable
from darkroom_server.domain.jobs import ImageSpec, Job, JobEvent, Task
from darkroom_server.domain.models import (
    BackendKind,
    ModelInfo,
    ModelRef,
    ModelStatus,
    VersionState,
    VersionStatus,
    all_ready,
)
from darkroom_server.engine.instance import prepare_fork_server
from darkroom_server.engine.stream import JobStream
from darkroom_server.engine.supervisor import Supervisor
from darkroom_server.models.repository import ModelRepository, RepositoryModel, RepositoryScan
from darkroom_server.models.resolution import resolve, resolve_model
from darkroom_server.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

#: What a caller is told to wait before it tries another server.
DRAINING_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Where the models are, and how many threads each worker computes with, by worker count.

    `aliases` are names by which models may be asked for besides their own.
    """

    model_repository: Path
    threads_per_worker: Callable[[int], int]
    aliases: Mapping[str, str] = field(default_factory=dict)


class Session:
    """A lease on one version of a model, for one request. Leaving it cancels what still runs."""

    def __init__(self, engine: Engine, supervisor: Supervisor) -> None:
        self.job_id = uuid.uuid4().hex
        self.model: ModelInfo = supervisor.version.model
        self.version = supervisor.version.version
        self.digest = supervisor.version.digest
        self.dtype = supervisor.dtype
        self._engine = engine
        self._supervisor = supervisor
        self._stream: JobStream | None = None

    def require_room(self) -> None:
        """Raises what `submit` would, as far as it can be told before the request is looked at.

        Saves decoding the images of a request that is going to be refused.
        """
        if self._engine.is_draining():
            raise draining()
        self._supervisor.require_room()

    async def submit(self, spec: ImageSpec, *, deadline_s: float | None) -> None:
        """Admits the job, or raises QueueFull, Draining, ModelUnavailable, DeadlineExceeded.

        `deadline_s` is on `time.monotonic()`. With one, the worker is asked whether it can be met.
        """
        self.require_room()
        job = Job(job_id=self.job_id, spec=spec, deadline_s=deadline_s)
        self._stream = self._supervisor.submit(job)
        if deadline_s is not None:
            await self._stream.begun()

    def events(self) -> AsyncIterator[JobEvent]:
        """The job's events, JobCompleted last; raises what the job failed of."""
        if self._stream is None:
            raise RuntimeError("submit() comes first")
        return self._stream.events()

    @property
    def dropped_count(self) -> int:
        """Progress and previews that the reader of `events` was too slow for."""
        return self._stream.dropped_count if self._stream is not None else 0

    def close(self, reason: Draining | None = None) -> None:
        """Stops the work, if any is left; with a reason, the reader of `events` is told it."""
        self._supervisor.cancel(self.job_id)
        if reason is not None and self._stream is not None:
            self._stream.fail(reason)


class Engine:
    """All models of a repository, and the requests that run on them."""

    def __init__(self, options: EngineOptions, metrics: Metrics) -> None:
        self._options = options
        self._metrics = metrics
        self._repository = ModelRepository(options.model_repository, options.aliases)
        self._scan = RepositoryScan(models=(), broken=(), problems=())
        self._supervisors: dict[tuple[str, int], Supervisor] = {}
        self._sessions: set[Session] = set()
        self._listeners: list[Callable[[], None]] = []
        self._scanned = asyncio.Event()
        self._leaving = False
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Reads the repository and starts loading what should serve; does not wait for it."""
        self._scan = scan = await asyncio.to_thread(self._repository.scan)
        for problem in scan.problems:
            log.warning("model repository", problem=str(problem))
        serving = [
            version
            for model in scan.models
            for version in model.versions
            if version.version in model.serving
        ]
        prepare_fork_server(
            preload_torch=any(v.model.backend is BackendKind.DIFFUSERS for v in serving)
        )
        thread_count = self._options.threads_per_worker(len(serving))
        for version in serving:
            self._supervisors[version.model.name, version.version] = Supervisor(
                version,
                thread_count=thread_count,
                metrics=self._metrics,
                on_change=self._notify,
            )
        self._scanned.set()
        log.info("models found", count=len(scan.models), serving_versions=len(serving))
        self._notify()
        await asyncio.gather(*(one.start() for one in self._supervisors.values()))

    async def scanned(self) -> None:
        """Waits until the repository has been read: before that no name of a model is known."""
        await self._scanned.wait()

    @asynccontextmanager
    async def open(self, ref: ModelRef, task: Task) -> AsyncIterator[Session]:
        """Leases a version; raises ModelNotFound, ModelUnavailable, Draining.

        Waits for the repository to be read: until then no model is known, and none is unknown.
        """
        await self._scanned.wait()
        if self._draining:
            raise draining()
        session = Session(self, self._supervisor(ref, task))
        self._sessions.add(session)
        self._idle.clear()
        try:
            yield session
        finally:
            session.close()
            self._sessions.discard(session)
            if not self._sessions:
                self._idle.set()

    def _supervisor(self, ref: ModelRef, task: Task) -> Supervisor:
        model, version = resolve(self._scan, ref, task)
        supervisor = self._supervisors.get((model.info.name, version))
        if supervisor is None:
            name = model.info.name
            raise ModelUnavailable(name, f"Version {version} of model {name} is not loaded.")
        return supervisor

    def list_models(self) -> tuple[ModelStatus, ...]:
        """Every model of the repository, by name."""
        return tuple(self._status(model) for model in self._scan.models)

    def get_model(self, name: str) -> ModelStatus:
        """One model by name, `models/` name, hub id or alias; raises ModelNotFound."""
        return self._status(resolve_model(self._scan, name))

    def _status(self, model: RepositoryModel) -> ModelStatus:
        found = {
            version.version: self._supervisors.get((model.info.name, version.version))
            for version in model.versions
        }
        return ModelStatus(
            model=model.info,
            versions=tuple(
                supervisor.status()
                if (supervisor := found[version.version]) is not None
                else VersionStatus(
                    version=version.version,
                    state=VersionState.UNLOADED,
                    labels=version.labels,
                    digest=version.digest,
                    weight_bytes=version.weight_bytes,
                )
                for version in model.versions
            ),
            default_version=model.default_version,
            queued_request_count=sum(one.job_count for one in found.values() if one is not None),
        )

    def worker_pids(self) -> tuple[int, ...]:
        """Process ids of the workers that run now."""
        pids = (one.worker_pid for one in self._supervisors.values())
        return tuple(pid for pid in pids if pid is not None)

    def is_ready(self) -> bool:
        """Whether there are models that should serve, all of them do, and will for now."""
        return all_ready(self.list_models()) and not self._leaving

    def is_draining(self) -> bool:
        """Whether the server is about to stop."""
        return self._draining

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Calls `listener` on the event loop whenever a model's status changes."""
        self._listeners.append(listener)

    def _notify(self) -> None:
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
        await asyncio.gather(*(one.stop() for one in self._supervisors.values()))


def draining() -> Draining:
    """The answer to requests of a server that is about to stop."""
    return Draining("The server is shutting down.", retry_after_s=DRAINING_RETRY_S)
