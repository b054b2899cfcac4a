"""Runs jobs one shared denoising step after another, and hands over what is finished.

`step_loop` makes the loop of a worker whose model is a `StepModel`.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Generic

import structlog

from darkroom_server.backends.base import Encoded, Inputs, OneTrajectory, Outputs, StepModel
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.errors import DarkroomError, OutOfDeviceMemory
from darkroom_server.domain.jobs import BatchShare, ImageSpec, Reproducibility, WorkStage
from darkroom_server.scheduling.admission import decide
from darkroom_server.scheduling.batch import Batch
from darkroom_server.scheduling.entry import Shape, Step
from darkroom_server.scheduling.shared_rows import SharedRows
from darkroom_server.scheduling.step_batcher import StepBatcher
from darkroom_server.scheduling.step_costs import StepCosts
from darkroom_server.scheduling.window_batcher import WaitUntil
from darkroom_server.worker.calibration import AnyCalibration, cost_key
from darkroom_server.worker.checkpoint_file import CheckpointFile
from darkroom_server.worker.checkpoints import Checkpoints
from darkroom_server.worker.compression import Compression, FinishedImage, JobRecord, WantedPreview
from darkroom_server.worker.counters import WorkerCounters
from darkroom_server.worker.failures import attempt
from darkroom_server.worker.jobs import JobTable
from darkroom_server.worker.loop import Attend, Work, WorkerLoop
from darkroom_server.worker.messages import Report, SubmitJob
from darkroom_server.worker.proving import AnyProver
from darkroom_server.worker.proving_turns import ProvingTurns
from darkroom_server.worker.step_jobs import RunningImage, StepJob

log = structlog.get_logger(__name__)

#: How long a step that only waits for adapters does so before it is looked who else is there.
ADAPTERS_WAIT_S = 0.05


def step_loop(
    model: StepModel[Encoded, OneTrajectory, Inputs, Outputs],
    emit: Callable[[Report], None],
    *,
    max_batch_size: int,
    prover: AnyProver | None = None,
    shared: SharedRows | None = None,
    calibration: AnyCalibration | None = None,
    costs: StepCosts | None = None,
    lane: Compression | None = None,
    prompts: PromptCache | None = None,
    checkpoints: CheckpointFile | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> WorkerLoop[StepJob[Encoded, OneTrajectory]]:
    """A loop that runs jobs on one model step by step. `emit` must be safe from any thread."""
    costs = costs or StepCosts(max_rows=max_batch_size)
    shared = prover.shared if prover is not None else shared or SharedRows()
    batcher = StepBatcher(costs, shared)
    proving = ProvingTurns(prover, clock, calibration, knee=costs.knee)
    # What calibration learns while the worker serves is admission's to read.
    lock = None if calibration is None else calibration.lock
    jobs: JobTable[StepJob[Encoded, OneTrajectory]] = JobTable(batcher, emit, lock=lock)
    lane = lane or Compression(emit, clock)
    counters = WorkerCounters(prompts, model.compile_counts, proving.progress)
    runner = StepRunner(
        model,
        jobs,
        batcher,
        proving,
        checkpoints=Checkpoints(model, checkpoints, emit),
        lane=lane,
        counters=counters,
        clock=clock,
    )
    return WorkerLoop(jobs, runner, emit, lane=lane, counters=counters, clock=clock)


class StepRunner(Generic[Encoded, OneTrajectory, Inputs, Outputs]):
    """The `Runner` of a `StepModel`."""

    def __init__(
        self,
        model: StepModel[Encoded, OneTrajectory, Inputs, Outputs],
        jobs: JobTable[StepJob[Encoded, OneTrajectory]],
        batcher: StepBatcher,
        proving: ProvingTurns,
        *,
        checkpoints: Checkpoints[Encoded, OneTrajectory, Inputs, Outputs],
        lane: Compression,
        counters: WorkerCounters,
        clock: Callable[[], float],
    ) -> None:
        self._model = model
        self._checkpoints = checkpoints
        self._jobs = jobs
        self._batcher = batcher
        self._costs = batcher.costs
        self._shared = batcher.shared
        self._proving = proving
        self._lane = lane
        self._counters = counters
        self._clock = clock
        #: Keys and rows of steps that were taken.
        self._ran: set[tuple[Hashable, int]] = set()
        self._batch_numbers = itertools.count(1)

    def admit(self, asked: SubmitJob, now_s: float) -> DarkroomError | None:
        """Refuses a job when its deadline cannot be met or others' would not be.

        Raises DeviceLost.
        """
        job, earlier = asked.job, asked.earlier
        shape = attempt(lambda: self._shape(job.spec))
        if isinstance(shape, DarkroomError):
            return shape
        forecast = self._batcher.forecast(job, shape, now_s)
        is_idle = self._jobs.is_idle
        admitted = decide(job, forecast, now_s, is_idle=is_idle, is_accepted=asked.is_promised)
        if isinstance(admitted, DarkroomError):
            return admitted
        record = JobRecord(job=job, submitted_s=now_s, sent_images=set(earlier.made_images))
        running = StepJob[Encoded, OneTrajectory](
            job=job, record=record, shape=shape, earlier=earlier
        )
        if running.is_decoded:
            self._lane.complete(record)
            return None
        remaining = earlier.remaining(len(job.spec.seeds), shape.evaluations)
        self._batcher.add(job, shape, now_s, admission=admitted, remaining=remaining)
        estimated_s = None if forecast is None else forecast.done_s
        if admitted.behind_s is not None:
            estimated_s = self._batcher.estimates_s((job.job_id,), now_s)[job.job_id]
        self._jobs.add(running, estimated_s)
        if job.spec.adapters:
            self._model.prepared(job.spec)
        return None

    def timed_out(self, now_s: float) -> tuple[()]:
        """None: only deadlines bound how long a job waits for steps."""
        del now_s
        return ()

    def plan(self, now_s: float) -> Work | WaitUntil:
        """The next shared step."""
        batch = self._batcher.plan(now_s)
        return WaitUntil(math.inf) if batch is None else partial(self._take, batch)

    def estimates_s(self, job_ids: Sequence[str], now_s: float) -> Mapping[str, float]:
        """Of those whose steps' costs are known."""
        return self._batcher.estimates_s(job_ids, now_s)

    def rest(self, *, is_idle: bool) -> float | None:
        """A part of a proof, where something is left to prove and it is its turn."""
        self._proving.take(is_idle=is_idle)
        return self._proving.pause_s

    def close(self) -> None:
        """Keeps what was proved."""
        self._proving.keep()

    def _shape(self, spec: ImageSpec) -> Shape:
        return Shape(
            key=cost_key(self._model, spec),
            rows=self._model.rows(spec),
            evaluations=self._model.evaluations(spec),
            pixel_count=spec.step_pixel_count,
            exact=spec.reproducibility is Reproducibility.EXACT,
        )

    def _take(self, batch: Batch, attend: Attend) -> None:
        """One step of every image of the batch; those that begin are made ready before."""
        del attend  # A step is over before anything would be late.
        self._counters.note_apart(batch.apart_row_count)
        ready = filter(None, map(self._ready, batch.steps))
        # Those of equally many rows together: what exact steps compute by image then goes at once.
        started = self._still_here(sorted(ready, key=lambda image: image.row_count))
        if not started:
            self._await_adapters(batch)
        started_s = self._clock()
        is_whole = self._denoise(started) and len(started) == len(batch.steps)
        duration_s = self._clock() - started_s
        self._proving.note_step(duration_s)
        stepped = self._still_here(started)
        finished = [image for image in stepped if image.trajectory.finished]
        with self._jobs.lock:
            steps = [image.step for image in finished]
            learns = is_whole and self._measures_cost(batch)
            self._batcher.commit(batch, steps, duration_s, learns=learns)
        self._report_progress(stepped, started_s, started_s + duration_s)
        for image in finished:
            self._finish(image)
        self._checkpoints.save(stepped)

    def _measures_cost(self, batch: Batch) -> bool:
        """Whether a step's duration is what such steps take.

        The first one of a shape also prepares the device's libraries for it. Where nothing is
        known, even that says something.
        """
        shape = (batch.key, batch.row_count)
        is_first = shape not in self._ran
        self._ran.add(shape)
        return not (is_first and self._costs.knows(batch.key))

    def _report_progress(
        self,
        stepped: Sequence[RunningImage[Encoded, OneTrajectory]],
        from_s: float,
        until_s: float,
    ) -> None:
        """Books the step with its jobs, and reports what they want to know."""
        number, now_s = next(self._batch_numbers), self._clock()
        jobs = {image.step.job_id: image.running for image in stepped}
        for running in jobs.values():
            own_count = sum(image.running is running for image in stepped)
            share = BatchShare(
                batch_id=str(number),
                batch_image_count=len(stepped),
                request_image_count=own_count,
            )
            running.record.note_step(share, from_s, until_s, jobs=jobs)
            self._jobs.report_progress(running, now_s, share)
        wanted = [image for image in stepped if image.wants_preview]
        self._preview(wanted[: self._lane.reserve_previews(len(wanted))])

    def _preview(self, images: Sequence[RunningImage[Encoded, OneTrajectory]]) -> None:
        """Has the lane paint what images look like so far; where that fails they go without."""
        if not images:
            return
        painter = attempt(lambda: self._model.painter([image.trajectory for image in images]))
        if isinstance(painter, DarkroomError):
            self._lane.give_back_previews(len(images))
            return
        wanted = [
            WantedPreview(
                image.running.record, image.step.image_index, image.trajectory.completed_step_count
            )
            for image in images
        ]
        self._lane.submit_previews(wanted, painter)

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
            if running.job.spec.adapters and not self._model.prepared(running.job.spec):
                return None  # while they are read, others take their steps
            begun = attempt(lambda: self._begin(running, step.image_index))
            if isinstance(begun, DarkroomError):
                self._jobs.fail(step.job_id, begun)
                return None
        return RunningImage(running, step, running.trajectories[step.image_index])

    def _await_adapters(self, batch: Batch) -> None:
        """Waits a little where there is nothing else to do for the batch."""
        for step in batch.steps:
            running = self._jobs.get(step.job_id)
            if running is not None and running.job.spec.adapters:
                self._model.prepared(running.job.spec, ADAPTERS_WAIT_S)
                return

    def _begin(self, running: StepJob[Encoded, OneTrajectory], image_index: int) -> None:
        spec, started_s = running.job.spec, self._clock()
        if not running.has_begun:
            if running.shape.exact:
                self._proving.ask(spec)
            self._jobs.begin(running, started_s)
            running.encoded = self._model.encode(spec)
            running.record.cut_fields = self._model.cut_fields(spec)
        running.trajectories[image_index] = self._checkpoints.begin(running, image_index)
        ended_s = self._clock()
        running.record.note(WorkStage.ENCODE, started_s, ended_s)
        self._learn_besides(running, "begin", ended_s - started_s)

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
        started_s = self._clock()
        outputs = attempt(lambda: self._evaluate(images))
        if not isinstance(outputs, DarkroomError):
            self._scatter(images, outputs)
            self._model.wait()
            row_count = sum(image.row_count for image in images)
            self._counters.note_shared_step(row_count, self._costs)
            self._counters.note_step_s(self._clock() - started_s)
            return True
        if len(images) == 1:
            self._jobs.fail(images[0].step.job_id, outputs)
            return False
        if isinstance(outputs, OutOfDeviceMemory):
            row_count = sum(image.row_count for image in images)
            log.warning("out of memory", row_count=row_count)
            with self._jobs.lock:
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
                self._jobs.fail(image.step.job_id, failed)

    def _finish(self, image: RunningImage[Encoded, OneTrajectory]) -> None:
        """Decodes an image and hands it to the compress lane."""
        running, started_s = image.running, self._clock()
        if image.step.job_id not in self._jobs:
            return
        pixels = attempt(lambda: self._model.decode(image.trajectory))
        if isinstance(pixels, DarkroomError):
            self._jobs.fail(image.step.job_id, pixels)
            return
        ended_s = self._clock()
        running.record.note(WorkStage.DECODE, started_s, ended_s)
        running.record.peak_memory_bytes = self._model.peak_memory_bytes()
        self._learn_besides(running, "decode", ended_s - started_s)
        index = image.step.image_index
        finished = FinishedImage(index, pixels, image.trajectory.is_filtered)
        running.note_decoded(index)
        if running.is_decoded:
            self._jobs.end(image.step.job_id, self._clock())
        self._lane.submit(running.record, finished)

    def _learn_besides(
        self, running: StepJob[Encoded, OneTrajectory], part: str, duration_s: float
    ) -> None:
        with self._jobs.lock:
            self._costs.learn_besides(running.shape.key, part, duration_s)
