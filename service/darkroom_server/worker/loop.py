"""The worker's loop: take one shared denoising step after another, hand over what is finished.

Two threads meet here: one that calls `run` or `tick` and owns the model, and any that calls `post`.
What both touch, the batcher and the table of jobs, is behind one lock that is never held during a
step: so a job is admitted or refused, and a cancelled one leaves the queue, at once. Knows nothing
of processes, so tests drive it with the fake backend.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Generic, assert_never

import structlog

from darkroom_server.backends.base import Encoded, Inputs, OneTrajectory, Outputs, StepModel
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.errors import (
    DarkroomError,
    DeadlineExceeded,
    OutOfDeviceMemory,
)
from darkroom_server.domain.jobs import (
    BatchShare,
    ImageSpec,
    Job,
    JobEvent,
    JobProgress,
    JobQueued,
    Reproducibility,
    Stage,
)
from darkroom_server.scheduling.admission import decide
from darkroom_server.scheduling.batch import Batch
from darkroom_server.scheduling.entry import Shape, Step
from darkroom_server.scheduling.shared_rows import SharedRows
from darkroom_server.scheduling.step_batcher import StepBatcher
from darkroom_server.scheduling.step_costs import StepCosts
from darkroom_server.worker.calibration import cost_key
from darkroom_server.worker.counters import WorkerCounters
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
from darkroom_server.worker.proving import AnyProver
from darkroom_server.worker.proving_turns import ProvingTurns
from darkroom_server.worker.running import RunningImage, RunningJob

log = structlog.get_logger(__name__)

#: Waiting jobs are told their place at most this often.
PLACES_INTERVAL_S = 0.25
#: Jobs further back learn their place when they come nearer.
MAX_TOLD_PLACES = 32


class WorkerLoop(Generic[Encoded, OneTrajectory, Inputs, Outputs]):
    """Runs jobs on one model. `emit` must be safe to call from any thread."""

    def __init__(
        self,
        model: StepModel[Encoded, OneTrajectory, Inputs, Outputs],
        emit: Callable[[Report], None],
        *,
        max_batch_size: int,
        prover: AnyProver | None = None,
        shared: SharedRows | None = None,
        costs: StepCosts | None = None,
        lane: CompressLane | None = None,
        prompts: PromptCache | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._emit = emit
        self._clock = clock
        self._costs = costs or StepCosts(max_rows=max_batch_size)
        self._proving = ProvingTurns(prover, clock)
        self._shared = prover.shared if prover is not None else shared or SharedRows()
        self._batcher = StepBatcher(self._costs, self._shared)
        if prover is not None:
            prover.useful_rows = self._costs.knee
        #: Keys and rows of steps that were taken.
        self._ran: set[tuple[Hashable, int]] = set()
        self._jobs: dict[str, RunningJob[Encoded, OneTrajectory]] = {}
        self._lane = lane or CompressLane(emit, clock)
        self._counters = WorkerCounters(prompts, model.compile_counts, self._proving.progress)
        self._stopping = False
        self._lock = threading.RLock()
        self._posted = threading.Condition(self._lock)
        self._batch_numbers = itertools.count(1)
        self._told_places_s = -PLACES_INTERVAL_S

    def post(self, command: Command) -> None:
        """Obeys a command; from any thread, and without waiting for a step."""
        with self._lock:
            match command:
                case SubmitJob(job, is_promised):
                    self._admit(job, is_promised=is_promised)
                case CancelJob(job_id):
                    self._drop(job_id)
                case StopWorker():
                    self._stopping = True
                case _:
                    assert_never(command)
            self._posted.notify()

    def run(self) -> None:
        """Ticks until a StopWorker command, sleeping while there is nothing to do."""
        while True:
            with self._lock:
                self._posted.wait_for(
                    lambda: self._stopping or len(self._batcher), timeout=self._idle_s()
                )
                if self._stopping:
                    break
            self.tick()
        self._proving.keep()
        self._lane.close()

    def run_to_end(self) -> None:
        """Ticks until all jobs have ended and their images are encoded; takes no more after it."""
        while len(self._batcher):
            self.tick()
        self._lane.close()

    def tick(self) -> None:
        """Drops what is late, takes one shared step if there is one, and tells what is counted."""
        with self._lock:
            now_s = self._clock()
            for late in self._batcher.expired(now_s):
                self._fail(late.job_id, DeadlineExceeded("The deadline passed."))
            if now_s - self._told_places_s >= PLACES_INTERVAL_S:
                self._tell_places(now_s)
            batch = self._batcher.plan(now_s)
        if batch is not None:
            self._take(batch)
        self._proving.take(is_idle=batch is None)
        if (stats := self._counters.news(self._clock())) is not None:
            self._emit(stats)

    def _idle_s(self) -> float | None:
        """How long to wait for a command before something else is to be done; None: for ever."""
        if (pause_s := self._proving.pause_s) is not None:
            return pause_s
        due_s = self._counters.due_s()
        return None if math.isinf(due_s) else max(0.0, due_s - self._clock())

    def _admit(self, job: Job, *, is_promised: bool) -> None:
        """Takes a job in, or refuses it when its deadline cannot be met or others' would not be."""
        now_s = self._clock()
        shape = attempt(lambda: self._shape(job.spec))
        if isinstance(shape, DarkroomError):
            self._emit(JobFailed(job.job_id, shape))
            return
        forecast = self._batcher.forecast(job, shape, now_s)
        is_idle = not len(self._batcher)
        admitted = decide(job, forecast, now_s, is_idle=is_idle, is_accepted=is_promised)
        if isinstance(admitted, DarkroomError):
            self._emit(JobFailed(job.job_id, admitted))
            return
        record = JobRecord(job=job, submitted_s=now_s)
        running: RunningJob[Encoded, OneTrajectory] = RunningJob(job, shape, record)
        self._jobs[job.job_id] = running
        self._batcher.add(job, shape, now_s, admission=admitted)
        running.ahead_count = self._batcher.ahead_count(job.job_id)
        estimated_s = None if forecast is None else forecast.done_s
        if admitted.behind_s is not None:
            estimated_s = self._batcher.estimates_s((job.job_id,), now_s)[job.job_id]
        self._report(running, JobQueued(running.ahead_count, estimated_s=estimated_s))

    def _shape(self, spec: ImageSpec) -> Shape:
        is_exact = spec.reproducibility is Reproducibility.EXACT
        return Shape(
            key=cost_key(self._model, spec),
            rows=self._model.rows(spec),
            evaluations=self._model.evaluations(spec),
            pixel_count=spec.width_px * spec.height_px,
            exact=is_exact,
        )

    def _take(self, batch: Batch) -> None:
        """One step of every image of the batch; those that begin are made ready before."""
        images = [self._ready(step) for step in batch.steps]
        started = self._still_here([image for image in images if image is not None])
        started_s = self._clock()
        is_whole = self._denoise(started) and len(started) == len(batch.steps)
        duration_s = self._clock() - started_s
        self._proving.note_step(duration_s)
        stepped = self._still_here(started)
        finished = [image for image in stepped if image.trajectory.finished]
        with self._lock:
            steps = [image.step for image in finished]
            learns = is_whole and self._tells_cost(batch)
            self._batcher.commit(batch, steps, duration_s, learns=learns)
        self._tell_progress(stepped, duration_s)
        for image in finished:
            self._finish(image)

    def _tells_cost(self, batch: Batch) -> bool:
        """Whether a step's duration is what such steps take.

        The first one of a shape also prepares the device's libraries for it. Where nothing is
        known, even that tells something.
        """
        shape = (batch.key, batch.row_count)
        is_first = shape not in self._ran
        self._ran.add(shape)
        return not (is_first and self._costs.knows(batch.key))

    def _tell_progress(
        self, stepped: Sequence[RunningImage[Encoded, OneTrajectory]], duration_s: float
    ) -> None:
        """Books the step with its jobs, and reports what they want to know."""
        number, now_s = next(self._batch_numbers), self._clock()
        jobs = {id(image.running): image.running for image in stepped}
        for running in jobs.values():
            own_count = sum(image.running is running for image in stepped)
            running.record.note_step(
                BatchShare(
                    batch_id=str(number),
                    batch_image_count=len(stepped),
                    request_image_count=own_count,
                ),
                duration_s,
            )
            if (news := running.news(now_s)) is not None:
                self._report(running, news)
        wanted = [image for image in stepped if image.wants_preview]
        self._preview(wanted[: self._lane.reserve_previews(len(wanted))])

    def _preview(self, images: Sequence[RunningImage[Encoded, OneTrajectory]]) -> None:
        """Paints what images look like so far; where that fails they go without."""
        if not images:
            return
        painted = attempt(lambda: self._model.previews([image.trajectory for image in images]))
        if isinstance(painted, DarkroomError):
            self._lane.give_back_previews(len(images))
            return
        for image, pixels in zip(images, painted, strict=True):
            self._lane.submit_preview(
                image.running.record,
                FinishedImage(image.step.image_index, pixels),
                image.trajectory.completed_step_count,
            )

    def _still_here(
        self, images: Sequence[RunningImage[Encoded, OneTrajectory]]
    ) -> list[RunningImage[Encoded, OneTrajectory]]:
        """Those whose job has not failed or been cancelled meanwhile."""
        return [image for image in images if image.step.job_id in self._jobs]

    def _ready(self, step: Step) -> RunningImage[Encoded, OneTrajectory] | None:
        """The image of a step, begun if it had not; None after its job has failed."""
        running = self._jobs.get(step.job_id)
        if running is None:
            return None
        if step.image_index not in running.trajectories:
            begun = attempt(lambda: self._begin(running, step.image_index))
            if isinstance(begun, DarkroomError):
                self._fail(step.job_id, begun)
                return None
        return RunningImage(running, step, running.trajectories[step.image_index])

    def _begin(self, running: RunningJob[Encoded, OneTrajectory], image_index: int) -> None:
        spec, started_s = running.job.spec, self._clock()
        if not running.has_begun:
            running.record.started_s = started_s
            if running.shape.exact:
                self._proving.ask(spec)
            self._report(running, JobProgress(stage=Stage.ENCODE, total_step_count=spec.step_count))
            running.encoded = self._model.encode(spec)
            running.record.cut_fields = self._model.cut_fields(spec)
        running.trajectories[image_index] = self._model.begin(spec, running.encoded, image_index)
        duration_s = self._clock() - started_s
        running.record.encode_s += duration_s
        self._learn_besides(running, "begin", duration_s)

    def _denoise(self, images: Sequence[RunningImage[Encoded, OneTrajectory]]) -> bool:
        """One shared evaluation; whether it ran whole.

        A failing batch is halved until only what is guilty fails.
        """
        if not images:
            return False
        if (count := self._exact_count(images)) < len(images):
            self._denoise(images[:count])
            self._denoise(images[count:])
            return False
        outputs = attempt(lambda: self._evaluate(images))
        if not isinstance(outputs, DarkroomError):
            self._scatter(images, outputs)
            self._model.wait()
            self._counters.note_step(
                sum(image.row_count for image in images), capacity_row_count=self._costs.max_rows
            )
            return True
        if len(images) == 1:
            self._fail(images[0].step.job_id, outputs)
            return False
        if isinstance(outputs, OutOfDeviceMemory):
            row_count = sum(image.row_count for image in images)
            log.warning("out of memory", row_count=row_count)
            with self._lock:
                self._costs.ran_out(images[0].running.shape.key, row_count)
        half = len(images) // 2
        self._denoise(images[:half])
        self._denoise(images[half:])
        return False

    def _evaluate(self, images: Sequence[RunningImage[Encoded, OneTrajectory]]) -> Outputs:
        return self._model.denoise(self._model.gather([image.trajectory for image in images]))

    def _exact_count(self, images: Sequence[RunningImage[Encoded, OneTrajectory]]) -> int:
        """How many images, from the first on, may share a step: some may have left the batch."""
        shape = images[0].running.shape
        if not shape.exact:
            return len(images)
        return self._shared.longest(shape.key, [image.row_count for image in images])

    def _scatter(
        self, images: Sequence[RunningImage[Encoded, OneTrajectory]], outputs: Outputs
    ) -> None:
        first_row = 0
        for image in images:
            failed = attempt(partial(self._model.scatter, image.trajectory, outputs, first_row))
            first_row += image.row_count
            if failed is not None:
                self._fail(image.step.job_id, failed)

    def _finish(self, image: RunningImage[Encoded, OneTrajectory]) -> None:
        """Decodes an image and hands it to the compress lane."""
        running, started_s = image.running, self._clock()
        if image.step.job_id not in self._jobs:
            return
        pixels = attempt(lambda: self._model.decode(image.trajectory))
        if isinstance(pixels, DarkroomError):
            self._fail(image.step.job_id, pixels)
            return
        duration_s = self._clock() - started_s
        running.record.decode_s += duration_s
        running.record.peak_memory_bytes = self._model.peak_memory_bytes()
        self._learn_besides(running, "decode", duration_s)
        index = image.step.image_index
        finished = FinishedImage(index, pixels, image.trajectory.is_filtered)
        running.note_decoded(index)
        if running.is_decoded:
            with self._lock:
                self._jobs.pop(image.step.job_id, None)
        self._lane.submit(running.record, finished)

    def _learn_besides(
        self, running: RunningJob[Encoded, OneTrajectory], part: str, duration_s: float
    ) -> None:
        with self._lock:
            self._costs.learn_besides(running.shape.key, part, duration_s)

    def _tell_places(self, now_s: float) -> None:
        """Tells waiting jobs whose place in the queue changed."""
        self._told_places_s = now_s
        moved = [
            (ahead_count, running)
            for ahead_count, job_id in enumerate(
                itertools.islice(self._batcher.order(), MAX_TOLD_PLACES)
            )
            if (running := self._jobs.get(job_id)) is not None
            and not running.has_begun
            and running.ahead_count != ahead_count
        ]
        moved_ids = [running.job.job_id for _, running in moved]
        estimates_s = self._batcher.estimates_s(moved_ids, now_s)
        for ahead_count, running in moved:
            running.ahead_count = ahead_count
            estimated_s = estimates_s.get(running.job.job_id)
            self._report(running, JobQueued(ahead_count, estimated_s=estimated_s))

    def _fail(self, job_id: str, error: DarkroomError) -> None:
        with self._lock:
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
            completed_step_count=running.completed_step_count,
            step_count=running.job.spec.step_count,
        )

    def _report(self, running: RunningJob[Encoded, OneTrajectory], event: JobEvent) -> None:
        self._emit(JobReport(running.job.job_id, event))
