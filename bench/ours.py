"""The real step batcher on the virtual device: plays the worker's loop, verb by verb."""

from __future__ import annotations

from bench.virtual import Device, Idle, Turn
from bench.workloads import Arrival
from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.jobs import ImageSpec, Job, Reproducibility, Task
from darkroom_server.model_config.bounds import MAX_ROW_COUNT
from darkroom_server.scheduling.admission import decide
from darkroom_server.scheduling.batch import Batch
from darkroom_server.scheduling.entry import Shape, Step
from darkroom_server.scheduling.likely import LikelyBounds
from darkroom_server.scheduling.step_batcher import StepBatcher
from darkroom_server.scheduling.step_costs import StepCosts

#: Rows that a step may have; what a model's `max_batch_size` is by default.
MAX_ROWS = MAX_ROW_COUNT


class SharedSteps:
    """Drives a `StepBatcher` as the worker does, with the device's table for a clock."""

    def __init__(self, device: Device) -> None:
        self._device = device
        costs = StepCosts(max_rows=MAX_ROWS)
        measure(costs, device)
        self._batcher = StepBatcher(costs)
        self._left: dict[str, tuple[Arrival, int]] = {}
        self._taken: tuple[Batch, list[Step], float] | None = None
        #: Seconds from arrival to image, as told at admission, by request; and those within which
        #: it likely is there.
        self.estimates_s: dict[int, float] = {}
        self.bounds_s: dict[int, float] = {}
        self._bounds = LikelyBounds()
        #: Requests turned away at the door.
        self.refused: set[int] = set()

    def arrive(self, arrival: Arrival, deadline_s: float | None) -> None:
        """Adds a job of one image, or refuses it as the worker does."""
        job, now_s = job_of(arrival, deadline_s), arrival.at_s
        shape = shape_of(arrival)
        forecast = self._batcher.forecast(job, shape, now_s)
        assert forecast is not None
        admitted = decide(job, forecast, now_s, is_idle=not len(self._batcher))
        if isinstance(admitted, DarkroomError):
            self.refused.add(arrival.index)
            return
        self.estimates_s[arrival.index] = forecast.done_s
        self._left[job.job_id] = (arrival, arrival.step_count)
        self._batcher.add(job, shape, now_s, admission=admitted)
        self.bounds_s[arrival.index] = self._bounds.give(
            job.job_id,
            forecast.done_s,
            now_s,
            waits=self._batcher.ahead_count(job.job_id) > 0,
            has_deadline=deadline_s is not None,
        )

    def cancel(self, index: int) -> None:
        """Removes a job."""
        self._forget(str(index))

    @property
    def full_row_count(self) -> int:
        """Rows up to which more of them pay."""
        return self._batcher.costs.knee((self._device.size_px, False))

    def left_step_count(self, index: int) -> int:
        """Steps that a request has left; 0 when it is not here."""
        found = self._left.get(str(index))
        return 0 if found is None else found[1]

    def turn(self, now_s: float) -> Turn | Idle:
        """One tick: drops what is late, takes one shared step, decodes what it finished."""
        self._commit()
        for late in self._batcher.expired(now_s):
            self._forget(late.job_id)
        batch = self._batcher.plan(now_s)
        if batch is None:
            return Idle()
        size_px = self._left[batch.steps[0].job_id][0].size_px
        step_s = self._device.step_s(size_px, batch.row_count)
        finished = [step for step in batch.steps if self._advance(step)]
        # What arrives during the step finds it running; it is booked after it.
        self._taken = (batch, finished, step_s)
        decode_s = self._device.decode_s(size_px)
        ended = tuple(
            (self._left.pop(step.job_id)[0].index, now_s + step_s + decoded * decode_s)
            for decoded, step in enumerate(finished, start=1)
        )
        for index, done_s in ended:
            self._bounds.ended(str(index), done_s)
        worked_on = tuple(int(step.job_id) for step in batch.steps)
        return Turn(step_s + len(finished) * decode_s, ended, worked_on)

    def _commit(self) -> None:
        """Books the step that was taken last."""
        if self._taken is None:
            return
        batch, finished, step_s = self._taken
        self._taken = None
        self._batcher.commit(batch, finished, step_s)
        for _ in finished:
            decode_s = self._device.decode_s(batch.key[0])
            self._batcher.costs.learn_besides(batch.key, "decode", decode_s)

    def _advance(self, step: Step) -> bool:
        """Whether this was the job's last step."""
        arrival, left = self._left[step.job_id]
        self._left[step.job_id] = (arrival, left - 1)
        return left == 1

    def _forget(self, job_id: str) -> None:
        self._batcher.remove(job_id)
        self._bounds.forget(job_id)
        self._left.pop(job_id, None)


def measure(costs: StepCosts, device: Device) -> None:
    """Puts in what a worker measures when it has loaded a model: a step of every bucket."""
    key = (device.size_px, False)
    costs.introduce(key, device.size_px**2)
    rows = 1
    while rows <= costs.max_rows:
        costs.learn(key, rows, device.step_s(device.size_px, rows))
        rows *= 2


def shape_of(arrival: Arrival) -> Shape:
    """What the batcher is told of an arrival: every size is a key."""
    return Shape(
        key=(arrival.size_px, False),
        rows=arrival.rows,
        evaluations=arrival.step_count,
        pixel_count=arrival.size_px**2,
    )


def job_of(arrival: Arrival, deadline_s: float | None) -> Job:
    """The job that the service would make of an arrival."""
    spec = ImageSpec(
        task=Task.TEXT_TO_IMAGE,
        prompt=str(arrival.prompt),
        negative_prompt=None,
        width_px=arrival.size_px,
        height_px=arrival.size_px,
        step_count=arrival.step_count,
        guidance_scale=arrival.guidance_scale,
        scheduler=arrival.scheduler,
        seeds=(arrival.index,),
        reproducibility=Reproducibility.TOLERANCE,
    )
    return Job(job_id=str(arrival.index), spec=spec, deadline_s=deadline_s)
