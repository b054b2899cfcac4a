"""One replica: a version of a model and its worker process, in an actor of Ray Serve.

What runs inside is the engine of one machine: admission, deadlines, priorities, shared steps, a
worker that is started again when it dies. Loop-bound, to the loop that Serve runs its code on.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import AsyncGenerator
from dataclasses import replace

import ray
from ray import serve

from darkroom_server.background import keep_going
from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.jobs import Job, JobEvent, JobProgress
from darkroom_server.domain.model_status import VersionState
from darkroom_server.domain.models import BackendKind, Placement, VersionInfo
from darkroom_server.engine.memory import SystemMemory
from darkroom_server.engine.memory_gate import MemoryGate
from darkroom_server.engine.stream import JobStream
from darkroom_server.engine.supervisor import Supervisor
from darkroom_server.engine.worker_process import prepare_fork_server
from darkroom_server.repository.remote_repository import RemoteLocation
from darkroom_server.scale_out.autoscaling import WORK_METRIC
from darkroom_server.scale_out.load_table import load_of, pace_of
from darkroom_server.scale_out.messages import JobNews, ReplicaState, RunJob
from darkroom_server.scale_out.node_copy import fetch
from darkroom_server.scale_out.options import ReplicaOrder
from darkroom_server.telemetry.logs import configure_logs
from darkroom_server.telemetry.metrics import Metrics
from darkroom_server.worker.messages import WorkerStats

#: Progress is sent at most this often; images and ends at once.
PROGRESS_INTERVAL_S = 0.05
#: How often it is looked whether the worker hangs.
WATCH_INTERVAL_S = 0.5


class ModelReplica:
    """Serves one version. Serve makes it, and it takes calls once the model is loaded."""

    async def __init__(self, order: ReplicaOrder) -> None:  # type: ignore[misc] # Serve awaits it
        # Worker processes would import what started this one, which is Ray's.
        vars(sys.modules["__main__"]).pop("__file__", None)
        configure_logs()
        version = await asyncio.to_thread(_here, order)
        is_real = version.model.backend is BackendKind.DIFFUSERS
        prepare_fork_server(preload_torch=is_real)
        self._changed = asyncio.Event()
        self._supervisor = Supervisor(
            version,
            thread_count=order.thread_count,
            prompt_cache_bytes=order.prompt_cache_bytes,
            metrics=Metrics(),
            on_change=self._changed.set,
            hang_limit_s=order.hang_limit_s,
        )
        self._jobs: dict[str, tuple[Job, JobStream]] = {}
        self._state_numbers = itertools.count(1)
        context = serve.get_replica_context()
        self._replica_id = context.replica_tag
        self._node_id = ray.get_runtime_context().get_node_id()
        MemoryGate(SystemMemory() if order.memory_check else None).check(version, ())
        await self._supervisor.start()
        self._watch = keep_going("watch over the worker", self._watch_worker)
        while self._supervisor.state not in (VersionState.READY, VersionState.FAILED):
            self._changed.clear()
            await self._changed.wait()
        if self._supervisor.state is VersionState.FAILED:
            raise RuntimeError(self._supervisor.status().message)

    async def run(self, request: RunJob) -> AsyncGenerator[JobNews]:
        """Runs a job to its end; a reader that stops stops the work."""
        left_s = request.left_s
        deadline_s = None if left_s is None else time.monotonic() + left_s
        job = replace(request.job, deadline_s=deadline_s)
        self._supervisor.acquire()
        try:
            stream = self._supervisor.submit(job, is_promised=request.is_promised)
            self._jobs[job.job_id] = (job, stream)
            async with _Pump(stream) as pump:
                async for events in pump.slices():
                    yield JobNews(events, pump.error, self._state())
        except DarkroomError as error:
            yield JobNews((), error, self._state())
        finally:
            self._jobs.pop(job.job_id, None)
            self._supervisor.cancel(job.job_id)
            self._supervisor.release()

    async def state(self) -> ReplicaState:
        """How it is doing."""
        return self._state()

    async def check_health(self) -> None:
        """Serve's health check; raises RuntimeError to be replaced."""
        if self._supervisor.state is VersionState.FAILED:
            raise RuntimeError(self._supervisor.status().message)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What the number of replicas is decided by."""
        return {WORK_METRIC: self._work_s()}

    async def worker_pids(self) -> tuple[int, ...]:
        """For tests: its worker's process."""
        return self._supervisor.worker_pids

    async def __del__(self) -> None:
        if hasattr(self, "_watch"):
            self._watch.cancel()
            await self._supervisor.stop()

    def _state(self) -> ReplicaState:
        status = self._supervisor.status()
        return ReplicaState(
            replica_id=self._replica_id,
            number=next(self._state_numbers),
            node_id=self._node_id,
            work_s=self._work_s(),
            memory_bytes=status.memory_bytes,
            dtype=self._supervisor.dtype,
            made_by=self._supervisor.made_by,
            stats=self._stats(),
        )

    def _stats(self) -> WorkerStats:
        return self._supervisor.stats[0]

    def _work_s(self) -> float:
        """Device seconds of the jobs that are here."""
        costs = self._stats().costs
        return sum(
            pace_of(job.spec, costs).work_s(load_of(job.spec, stream.progress[0]))
            for job, stream in self._jobs.values()
        )

    async def _watch_worker(self) -> None:
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            self._supervisor.check_hang(time.monotonic())


class _Pump:
    """A job's events as they come, in slices: progress waits a little for more."""

    def __init__(self, stream: JobStream) -> None:
        self._stream = stream
        self._events: list[JobEvent] = []
        self._changed, self._urgent = asyncio.Event(), asyncio.Event()
        self._is_over = False
        self.error: DarkroomError | None = None

    async def __aenter__(self) -> _Pump:
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        try:
            async for event in self._stream:
                self._events.append(event)
                self._changed.set()
                if not isinstance(event, JobProgress):
                    self._urgent.set()
        except DarkroomError as error:
            self.error = error
        finally:
            self._is_over = True
            self._changed.set()
            self._urgent.set()

    async def slices(self) -> AsyncGenerator[tuple[JobEvent, ...]]:
        """What has come since the last slice; the last one when the job has ended."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._urgent.clear()
            events, self._events = tuple(self._events), []
            is_over = self._is_over
            yield events
            if is_over:
                return
            try:
                async with asyncio.timeout(PROGRESS_INTERVAL_S):
                    await self._urgent.wait()
            except TimeoutError:
                continue


def _here(order: ReplicaOrder) -> VersionInfo:
    """The version as this node has it, with one worker; of a store it is fetched first."""
    version = order.version
    if isinstance(order.location, RemoteLocation):
        version = replace(version, path=fetch(order.location, version))
    first = version.model.placements[0]
    # Ray shows a replica the GPUs that are its own, and no others.
    model = replace(version.model, placements=(Placement(device=first.device),))
    return replace(version, model=model)
