"""The real step batcher on the virtual device: plays the worker's loop, verb by verb."""

from __future__ import annotations

from bench.virtual import Device, Idle, Turn
from bench.workloads import Arrival
from darkroom_server.domain.jobs import ImageSpec, Job, Reproducibility, Task
from darkroom_server.scheduling.step_batcher import Shape, Step, StepBatcher
from darkroom_server.scheduling.step_costs import StepCosts

#: Rows that a step may have; what a model's `max_batch_size` is by default.
MAX_ROWS = 8


class SharedSteps:
    """Drives a `StepBatcher` as `worker/loop.py` does, with the device's table for a clock."""

    def __init__(self, device: Device, *, max_rows: int = MAX_ROWS, solo: bool = False) -> None:
        self._device = device
        self._solo = solo
        self._batcher = StepBatcher(StepCosts(max_rows=max_rows))
        self._left: dict[str, tuple[Arrival, int]] = {}

    def arrive(self, arrival: Arrival, deadline_s: float | None) -> None:
        """Adds a job of one image."""
        job = job_of(arrival, deadline_s, solo=self._solo)
        shape = Shape(key=(arrival.size_px, False), rows=arrival.rows, alone=self._solo)
        self._left[job.job_id] = (arrival, arrival.step_count)
        self._batcher.add(job, shape, arrival.at_s)

    def cancel(self, index: int) -> None:
        """Removes a job."""
        self._forget(str(index))

    def turn(self, now_s: float) -> Turn | Idle:
        """One tick: drops what is late, takes one shared step, decodes what it finished."""
        for late in self._batcher.expired(now_s):
            self._forget(late.job_id)
        batch = self._batcher.plan(now_s)
        if batch is None:
            return Idle()
        size_px = self._left[batch.steps[0].job_id][0].size_px
        step_s = self._device.step_s(size_px, batch.row_count)
        finished = [step for step in batch.steps if self._advance(step)]
        self._batcher.commit(batch, finished, step_s)
        decode_s = self._device.decode_s(size_px)
        ended = tuple(
            (self._left.pop(step.job_id)[0].index, now_s + step_s + decoded * decode_s)
            for decoded, step in enumerate(finished, start=1)
        )
        worked_on = tuple(int(step.job_id) for step in batch.steps)
        return Turn(step_s + len(finished) * decode_s, ended, worked_on)

    def _advance(self, step: Step) -> bool:
        """Whether this was the job's last step."""
        arrival, left = self._left[step.job_id]
        self._left[step.job_id] = (arrival, left - 1)
        return left == 1

    def _forget(self, job_id: str) -> None:
        self._batcher.remove(job_id)
        self._left.pop(job_id, None)


def job_of(arrival: Arrival, deadline_s: float | None, *, solo: bool = False) -> Job:
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
        reproducibility=Reproducibility.SOLO if solo else Reproducibility.TOLERANCE,
    )
    return Job(job_id=str(arrival.index), spec=spec, deadline_s=deadline_s)
