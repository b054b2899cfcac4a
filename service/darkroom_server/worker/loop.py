"""The worker's loop: take commands, take one shared denoising step, hand over what is finished.

Thread-bound: everything but `post` belongs to the thread that calls `run` or `tick`. Knows nothing
of processes, so tests drive it with the fake backend.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, assert_never

import structlog

from darkroom_server.backends.base import StepModel
from darkroom_server.domain.errors import DarkroomError, DeadlineExceeded, OutOfDeviceMemory
from darkroom_server.domain.jobs import (
    Job,
    JobEvent,
    JobProgress,
    JobQueued,
    Reproducibility,
    Stage,
)
from darkroom_server.scheduling.step_batcher import Batch, Shape, Step, StepBatcher
from darkroom_server.scheduling.step_costs import StepCosts, bucket_of
from darkroom_server.worker.failures import attempt
from darkroom_server.worker.lanes import CompressLane, FinishedImage, JobRecord
from darkroom_server.worker.messages import (
    CancelJob,
    Command,
    JobFailed,
    JobReport,
    Report,
    StopWorker,
    SubmitJob,
)
from darkroom_server.worker.running import DecodedTrajectory, RunningImage, RunningJob

log = structlog.get_logger(__name__)


class WorkerLoop:
    """Runs jobs on one model. `emit` must be safe to call from the compress lane's thread too."""

    def __init__(
        self,
        model: StepModel,
        emit: Callable[[Report], None],
        *,
        max_batch_size: int,
        lane: CompressLane | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._emit = emit
        self._clock = clock
        self._inbox: queue.SimpleQueue[Command] = queue.SimpleQueue()
        #: Rows of a step whose results must not depend on how many of them are in use.
        self._fixed_rows = max_batch_size
        self._costs = StepCosts(max_rows=max_batch_size)
        self._batcher = StepBatcher(self._costs)
        self._jobs: dict[str, RunningJob] = {}
        self._lane = lane or CompressLane(emit, clock)
        self._stopping = False

    def post(self, command: Command) -> None:
        """Hands the loop a command; from any thread."""
        self._inbox.put(command)

    def run(self) -> None:
        """Ticks until a StopWorker command, sleeping in the inbox while there is nothing to do."""
        while not self._stopping:
            if not len(self._batcher):
                self._obey(self._inbox.get())
            self.tick()
        self._lane.close()

    def run_to_end(self) -> None:
        """Ticks until all jobs have ended and their images are encoded; takes no more after it."""
        self.tick()
        while len(self._batcher):
            self.tick()
        self._lane.close()

    def tick(self) -> None:
        """Obeys all commands, drops what is late, and takes one shared step if there is one."""
        while not self._inbox.empty():
            self._obey(self._inbox.get())
        now_s = self._clock()
        for late in self._batcher.expired(now_s):
            self._fail(late.job_id, DeadlineExceeded("The deadline passed."))
        batch = self._batcher.plan(now_s)
        if batch is not None and not self._stopping:
            self._take(batch)

    def _obey(self, command: Command) -> None:
        match command:
            case SubmitJob(job):
                self._admit(job)
            case CancelJob(job_id):
                self._drop(job_id)
            case StopWorker():
                self._stopping = True
            case _:
                assert_never(command)

    def _admit(self, job: Job) -> None:
        now_s, spec = self._clock(), job.spec
        shape = Shape(
            key=(self._model.batch_key(spec), spec.reproducibility is Reproducibility.BUCKET_EXACT),
            rows=self._model.rows(spec),
            alone=spec.reproducibility is Reproducibility.SOLO,
        )
        self._jobs[job.job_id] = RunningJob(job, JobRecord(job=job, submitted_s=now_s))
        self._batcher.add(job, shape, now_s)
        self._tell_places()

    def _take(self, batch: Batch) -> None:
        """One step of every image of the batch; those that begin are made ready before."""
        images = [self._ready(step) for step in batch.steps]
        started = self._still_here([image for image in images if image is not None])
        started_s = self._clock()
        self._denoise(started)
        duration_s = self._clock() - started_s
        stepped = self._still_here(started)
        finished = [image for image in stepped if image.trajectory.finished]
        self._batcher.commit(batch, [image.step for image in finished], duration_s)
        for running in {id(image.running): image.running for image in stepped}.values():
            running.record.denoise_s += duration_s
            if (news := running.news()) is not None:
                self._report(running, news)
        for image in finished:
            self._finish(image)

    def _still_here(self, images: Sequence[RunningImage]) -> list[RunningImage]:
        """Those whose job has not failed meanwhile."""
        return [image for image in images if image.step.job_id in self._jobs]

    def _ready(self, step: Step) -> RunningImage | None:
        """The image of a step, begun if it had not; None after its job has failed."""
        running = self._jobs.get(step.job_id)
        if running is None:
            return None
        spec = running.job.spec
        if step.image_index not in running.trajectories:
            begun = attempt(lambda: self._begin(running, step.image_index))
            if isinstance(begun, DarkroomError):
                self._fail(step.job_id, begun)
                return None
        return RunningImage(
            running, step, running.trajectories[step.image_index], self._model.rows(spec)
        )

    def _begin(self, running: RunningJob, image_index: int) -> None:
        spec, started_s = running.job.spec, self._clock()
        if not running.has_begun:
            running.record.started_s = started_s
            self._report(running, JobProgress(stage=Stage.ENCODE, total_step_count=spec.step_count))
            running.encoded = self._model.encode(spec)
        running.trajectories[image_index] = self._model.begin(spec, running.encoded, image_index)
        running.record.encode_s += self._clock() - started_s

    def _denoise(self, images: Sequence[RunningImage]) -> None:
        """One shared evaluation. A failing batch is halved until only what is guilty fails."""
        if not images:
            return
        outputs = attempt(lambda: self._evaluate(images))
        if not isinstance(outputs, DarkroomError):
            self._scatter(images, outputs)
        elif len(images) == 1:
            self._fail(images[0].step.job_id, outputs)
        else:
            if isinstance(outputs, OutOfDeviceMemory):
                self._costs.max_rows = max(1, sum(image.row_count for image in images) // 2)
                log.warning("out of memory", max_batch_size=self._costs.max_rows)
            half = len(images) // 2
            self._denoise(images[:half])
            self._denoise(images[half:])

    def _evaluate(self, images: Sequence[RunningImage]) -> Any:
        row_count = sum(image.row_count for image in images)
        if images[0].running.job.spec.reproducibility is Reproducibility.BUCKET_EXACT:
            row_count = max(row_count, bucket_of(self._fixed_rows))
        trajectories = [image.trajectory for image in images]
        return self._model.denoise(self._model.gather(trajectories, row_count))

    def _scatter(self, images: Sequence[RunningImage], outputs: Any) -> None:
        first_row = 0
        for image in images:
            failed = attempt(partial(self._model.scatter, image.trajectory, outputs, first_row))
            first_row += image.row_count
            if failed is not None:
                self._fail(image.step.job_id, failed)

    def _finish(self, image: RunningImage) -> None:
        """Decodes an image and hands it to the compress lane."""
        running, started_s = image.running, self._clock()
        if image.step.job_id not in self._jobs:
            return
        pixels = attempt(lambda: self._model.decode(image.trajectory))
        if isinstance(pixels, DarkroomError):
            self._fail(image.step.job_id, pixels)
            return
        running.record.decode_s += self._clock() - started_s
        index = image.step.image_index
        running.trajectories[index] = DecodedTrajectory(image.trajectory.step_count)
        running.decoded_count += 1
        if running.is_decoded:
            del self._jobs[image.step.job_id]
            self._tell_places()
        self._lane.submit(running.record, FinishedImage(index, pixels))

    def _tell_places(self) -> None:
        """Tells waiting jobs whose place in the queue changed."""
        for ahead_count, job_id in enumerate(self._batcher.order(self._clock())):
            running = self._jobs.get(job_id)
            if running is None or running.has_begun or running.ahead_count == ahead_count:
                continue
            running.ahead_count = ahead_count
            self._report(running, JobQueued(ahead_count))

    def _fail(self, job_id: str, error: DarkroomError) -> None:
        if job_id in self._jobs:
            self._drop(job_id)
            self._emit(JobFailed(job_id, error))

    def _drop(self, job_id: str) -> None:
        self._batcher.remove(job_id)
        running = self._jobs.pop(job_id, None)
        if running is None:
            return
        running.record.cancelled = True
        log.info(
            "job stopped",
            job_id=job_id,
            completed_step_count=running.record.reported_step_count,
            step_count=running.job.spec.step_count,
        )
        self._tell_places()

    def _report(self, running: RunningJob, event: JobEvent) -> None:
        self._emit(JobReport(running.job.job_id, event))
