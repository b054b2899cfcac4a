"""Keeps one version of a model served: its workers, and which of them runs a job. Loop-bound."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import structlog

from darkroom_server.domain.errors import (
    DeadlineExceeded,
    ModelPrecondition,
    ModelUnavailable,
    QueueFull,
)
from darkroom_server.domain.jobs import Job, JobCompleted, Reproducibility
from darkroom_server.domain.model_status import (
    LoadProgress,
    LoadStage,
    StepSharing,
    VersionState,
    VersionStatus,
)
from darkroom_server.domain.models import Dtype, VersionInfo
from darkroom_server.engine.active_job import ActiveJob
from darkroom_server.engine.moving import Moving
from darkroom_server.engine.slot_contract import ServingSlot, SlotOwner
from darkroom_server.engine.stream import JobStream
from darkroom_server.engine.version_metrics import VersionLook, VersionMetrics
from darkroom_server.engine.worker_slot import WorkerSlot
from darkroom_server.lifecycle.transitions import LifeEvent, next_state
from darkroom_server.lifecycle.worker_states import WorkerState, event_of_workers
from darkroom_server.telemetry.metrics import Metrics
from darkroom_server.worker.messages import WorkerSpec, WorkerStats

log = structlog.get_logger(__name__)

#: States in which jobs are taken: they run now, or as soon as a worker is up. One that leaves takes
#: those of the requests that hold it.
SERVING_STATES = (
    VersionState.LOADING,
    VersionState.READY,
    VersionState.UNAVAILABLE,
    VersionState.UNLOADING,
)
#: What QUEUE_FULL advises before any job has been timed.
DEFAULT_JOB_S = 1.0

#: Makes the slots of a version where they are not workers of this machine.
SlotMaker = Callable[[VersionInfo, VersionMetrics, SlotOwner], Sequence[ServingSlot]]


class Supervisor:
    """A version and its workers. `on_change` is called whenever its status changes."""

    def __init__(
        self,
        version: VersionInfo,
        *,
        thread_count: int,
        prompt_cache_bytes: int,
        checkpoint_bytes: int = 0,
        metrics: Metrics,
        on_change: Callable[[], None],
        hang_limit_s: float,
        make_slots: SlotMaker | None = None,
    ) -> None:
        self.version = version
        #: What it computes in: as configured until it is loaded, then as it is.
        self.dtype: Dtype = version.model.dtype
        #: Libraries and device that make its pixels, once a worker has reported them.
        self.made_by = ""
        self._on_change = on_change
        # Jobs are taken from now on, and wait.
        self._state = next_state(VersionState.UNLOADED, LifeEvent.LOAD)
        self._message = ""
        self._loaded_at_s: float | None = None
        #: When it was given up, on the monotonic clock.
        self.failed_at_s: float | None = None
        self._job_s = DEFAULT_JOB_S
        self._lease_count = 0
        #: Whether its turn has come, and memory was found for it.
        self.is_started = False
        self._is_cut_off = False
        #: When a request used it last, on the monotonic clock.
        self.used_at_s = time.monotonic()
        self._idle = asyncio.Event()
        self._idle.set()
        #: Why it was given up, where that has a kind of its own.
        self.failure: ModelPrecondition | None = None
        self._slot_of: dict[str, ServingSlot] = {}
        self._moving = Moving(self._place_again)
        name, number = version.model.name, version.version
        self._metrics = VersionMetrics(metrics, model=name, version=number, look=self._look)
        self._slots: Sequence[ServingSlot] = (
            make_slots(version, self._metrics, self)
            if make_slots is not None
            else [
                WorkerSlot(
                    index,
                    WorkerSpec(
                        version=version,
                        thread_count=thread_count,
                        placement=placement,
                        prompt_cache_bytes=prompt_cache_bytes,
                    ),
                    metrics=self._metrics,
                    owner=self,
                    hang_limit_s=hang_limit_s,
                    checkpoint_bytes=checkpoint_bytes,
                )
                for index, placement in enumerate(version.model.placements)
            ]
        )

    @property
    def state(self) -> VersionState:
        """Where the version is in its life cycle."""
        return self._state

    @property
    def job_count(self) -> int:
        """Jobs admitted and not ended."""
        return len(self._slot_of) + len(self._moving)

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """The workers' process ids, for tests and logs."""
        return tuple(pid for slot in self._slots if (pid := slot.pid) is not None)

    @property
    def stats(self) -> tuple[WorkerStats, ...]:
        """The workers' last statistics."""
        return tuple(slot.stats for slot in self._slots)

    def _look(self) -> VersionLook:
        waiting = (
            active.admitted_s
            for slot in self._slots
            for active in slot.jobs.values()
            if not active.is_begun
        )
        return VersionLook(
            state=self._state,
            memory_bytes=sum(slot.memory_bytes for slot in self._slots),
            queued_since_s=tuple(waiting),
        )

    @property
    def active_jobs(self) -> Iterator[tuple[ActiveJob, WorkerStats]]:
        """The jobs that workers have, each with its worker's last event."""
        return ((active, slot.stats) for slot in self._slots for active in slot.jobs.values())

    @property
    def worker_count(self) -> int:
        """Workers that it has, or is to have."""
        return sum(slot.width for slot in self._slots)

    def took_over(self) -> None:
        """Requests that name no version get this one now, and got another before."""
        self._metrics.swapped()

    def status(self) -> VersionStatus:
        """How the version is doing now."""
        return VersionStatus(
            version=self.version.version,
            state=self._state,
            message=self._message or "; ".join(one.note for one in self._slots if one.note),
            labels=self.version.labels,
            digest=self.version.digest,
            memory_bytes=sum(slot.memory_bytes for slot in self._slots),
            loaded_at_s=self._loaded_at_s,
            weight_bytes=self.version.weight_bytes,
            progress=self.progress if self._state is VersionState.LOADING else None,
            step_sharing=self._step_sharing() if self._state is VersionState.READY else None,
        )

    def _step_sharing(self) -> StepSharing:
        info = self.version.model
        sharing = StepSharing(level=info.reproducibility)
        if info.reproducibility is Reproducibility.TOLERANCE:
            return replace(sharing, max_row_count=info.max_batch_size)
        if info.runs_whole:
            return replace(sharing, reason="its requests run whole, one by one")
        reported = self.stats
        row_count = max(stats.proved_row_count for stats in reported)
        is_proving = any(stats.is_proving for stats in reported)
        reason = "" if row_count or is_proving else "no step of several images was equal to theirs"
        return replace(sharing, max_row_count=row_count, is_proving=is_proving, reason=reason)

    @property
    def progress(self) -> LoadProgress:
        """How far its load is, of all workers together."""
        if not self.is_started and self._state is VersionState.LOADING:
            total_bytes = self.version.weight_bytes * len(self._slots)
            return LoadProgress(stage=LoadStage.WAITING, total_bytes=total_bytes)
        first, *others = (slot.progress for slot in self._slots)
        return sum(others, first)

    @property
    def is_idle(self) -> bool:
        """Whether no request holds it."""
        return not self._lease_count

    @property
    def is_taking_memory(self) -> bool:
        """Whether a worker of it is on its way up, beside others or not."""
        coming = (WorkerState.LOADING, WorkerState.RESTARTING)
        return self.is_started and any(slot.state in coming for slot in self._slots)

    @property
    def is_needed(self) -> bool:
        """Whether a load that has not been started still should be: also one on its way out, which
        another edition overtook, is if requests wait for it.
        """
        is_leaving = self._state is VersionState.UNLOADING
        waits = is_leaving and not self.is_idle and not self._is_cut_off
        return self._state is VersionState.LOADING or waits

    def refuse(self, failure: ModelPrecondition) -> None:
        """Gives up a load that has not been started."""
        self.failure = failure
        self.failed_at_s = time.monotonic()
        self._fail_all(failure)
        if self._state is VersionState.LOADING:
            self._happen(LifeEvent.GIVE_UP, str(failure))

    async def start(self) -> None:
        """Starts the workers; returns before the model is loaded."""
        self.is_started = True
        self._publish()
        await asyncio.gather(*(slot.start() for slot in self._slots))

    def acquire(self) -> None:
        """A request is going to use it, and may until `release`."""
        self._lease_count += 1
        self._idle.clear()

    def release(self) -> None:
        """The request is over."""
        self._lease_count -= 1
        self.used_at_s = time.monotonic()
        if not self._lease_count:
            self._idle.set()

    def leave(self) -> None:
        """It is on its way out: only requests that hold it use it."""
        self._happen(LifeEvent.LEAVE)

    def cut_off(self) -> None:
        """Ends the requests that still hold it; for one that is on its way out."""
        self._is_cut_off = True
        name = self.version.model.name
        self._fail_all(ModelUnavailable(name, f"Model {self._name()} was unloaded."))
        self._idle.set()

    async def drained(self) -> None:
        """Returns when no request holds it, or those that do have been cut off."""
        await self._idle.wait()

    async def stop(self) -> None:
        """Ends the workers; jobs still here fail as unavailable."""
        if self._state is VersionState.UNLOADED:
            return
        if self._state is not VersionState.UNLOADING:
            self.leave()
        self._fail_all()
        await asyncio.gather(*(slot.stop() for slot in self._slots))
        self._metrics.forget()
        self._loaded_at_s = None
        self._happen(LifeEvent.GONE)

    def submit(self, job: Job, *, is_promised: bool = False) -> JobStream:
        """Admits a job, or raises QueueFull, ModelUnavailable or DeadlineExceeded.

        `is_promised`: its caller already has its `accepted` event.
        """
        self.require_room()
        now_s = time.monotonic()
        if job.deadline_s is not None and job.deadline_s <= now_s:
            raise DeadlineExceeded("The deadline had passed before the request was admitted.")
        active = ActiveJob(job, JobStream(), now_s, is_promised=is_promised)
        self._place(active, self._open_slots())
        return active.stream

    def require_room(self) -> None:
        """Raises QueueFull or ModelUnavailable when a job would not be admitted now."""
        if self._state not in SERVING_STATES or self._is_cut_off or not self._open_slots():
            raise self._unavailable()
        limit = self.version.model.max_queue_size * max(slot.width for slot in self._slots)
        if self.job_count >= limit:
            raise QueueFull(
                f"{self.job_count} requests are running or waiting; the limit is {limit}.",
                # Of `job_count` jobs, one ends in about this time.
                retry_after_s=max(0.1, self._job_s / self.job_count),
            )

    def cancel(self, job_id: str) -> None:
        """Forgets a job and stops the work on it; unknown ids are ignored."""
        if self._moving.remove(job_id):
            return
        slot = self._slot_of.pop(job_id, None)
        if slot is not None:
            slot.cancel(job_id)

    def check_hang(self, now_s: float) -> None:
        """Kills workers that hang."""
        for slot in self._slots:
            slot.check_hang(now_s)

    def job_ended(self, job_id: str, completed: JobCompleted | None) -> None:
        """A slot says that a job is over."""
        self._slot_of.pop(job_id, None)
        if completed is not None:
            self._job_s = 0.8 * self._job_s + 0.2 * completed.timings.total_s

    def slot_changed(self, slot: ServingSlot) -> None:
        """A slot says that its state is another: what waits for it may move to one that runs."""
        if slot.dtype is not None:
            self.dtype, self.made_by = slot.dtype, slot.made_by
        self._move_jobs(slot)
        match event := event_of_workers(
            self._state, [one.state for one in self._slots], changed=slot.state
        ):
            case None:
                if self._state is VersionState.UNAVAILABLE:
                    self._message = slot.message or self._message
                self._on_change()
                return
            case LifeEvent.SERVE:
                self._loaded_at_s, message = time.time(), ""
            case LifeEvent.GIVE_UP:
                self.failed_at_s, message = time.monotonic(), self._slots[0].message
            case _:
                self._loaded_at_s, message = None, slot.message
        self._happen(event, message)

    def _open_slots(self) -> list[ServingSlot]:
        """Where a job may be put: workers that run, else those that will."""
        ready = [slot for slot in self._slots if slot.state is WorkerState.READY]
        return ready or [slot for slot in self._slots if slot.state is not WorkerState.FAILED]

    def _place(self, active: ActiveJob, slots: Sequence[ServingSlot]) -> None:
        """Gives a job to the slot with the fewest."""
        slot = min(slots, key=lambda one: len(one.jobs))
        self._slot_of[active.job.job_id] = slot
        slot.submit(active)

    def _move_jobs(self, slot: ServingSlot) -> None:
        """Takes from a failed slot what it has, and from one that comes back what can run now."""
        others = [one for one in self._open_slots() if one is not slot]
        match slot.state:
            case WorkerState.FAILED:
                released = slot.release(waiting_only=False)
            case WorkerState.RESTARTING if any(one.state is WorkerState.READY for one in others):
                released = slot.release(waiting_only=True)
            case _:
                return
        for active in released:
            del self._slot_of[active.job.job_id]
        self._moving.add(released, slot.message)

    def _place_again(self, active: ActiveJob, why: str) -> None:
        """Gives a job that lost its slot to another, or fails it if there is none."""
        if slots := self._open_slots():
            self._place(active, slots)
        else:
            active.stream.fail(self._unavailable(why))

    def _fail_all(self, error: ModelPrecondition | None = None) -> None:
        released = self._moving.release()
        for slot in self._slots:
            released += slot.release(waiting_only=False)
        for active in released:
            active.stream.fail(error or self._unavailable())
        self._slot_of.clear()

    def _unavailable(self, message: str = "") -> ModelUnavailable:
        name = self.version.model.name
        why = message or self._message
        state = VersionState.FAILED if message else self._state
        return ModelUnavailable(
            name, f"Model {self._name()} is {state.value}{f': {why}' if why else '.'}"
        )

    def _name(self) -> str:
        return f"{self.version.model.name}/{self.version.version}"

    def _happen(self, event: LifeEvent, message: str = "") -> None:
        self._state, self._message = next_state(self._state, event), message
        self._publish()

    def _publish(self) -> None:
        log.info("model", model=self._name(), state=self._state.value)
        self._on_change()
