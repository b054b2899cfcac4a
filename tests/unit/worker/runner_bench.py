"""The worker's loop with either runner, on models that are alike from outside.

Steps take time on the bench's clock, and an image's bytes are its seed plus its steps.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from darkroom_server.backends.fake import FakeStepModel, FakeTrajectory
from darkroom_server.domain.jobs import JobCompleted, JobEvent, JobImage, JobQueued, Reproducibility
from darkroom_server.worker.compression import Compression
from darkroom_server.worker.messages import JobFailed, JobReport, Report, SubmitJob
from darkroom_server.worker.request_runner import request_loop
from darkroom_server.worker.step_runner import step_loop
from tests.unit.worker.loop_bench import Clock, job_reports, shared
from tests.unit.worker.window_bench import AT_ONCE, STEP_S, FakeRequestModel

MAX_BATCH_SIZE = 4


class RunnerBench:
    """What the tests of both runners need."""

    #: Whether previews of what is under way can be had.
    paints_previews: bool
    loop: Any

    def __init__(self) -> None:
        self.clock = Clock()
        self.begun_s = self.clock()
        self.reports: list[Report] = []
        self.told_s: list[float] = []
        self.lane = Compression(self.emit, self.clock)
        self._step_count = 0
        self._during: Callable[[int], None] = lambda _: None

    def emit(self, report: Report) -> None:
        self.told_s.append(self.clock())
        self.reports.append(report)

    def during(self, work: Callable[[int], None]) -> None:
        """Calls `work` within every step, with its number."""
        self._during = work

    @property
    def step_count(self) -> int:
        """Steps that the model has taken."""
        return self._step_count

    def note_step(self) -> None:
        self._step_count += 1
        self._during(self._step_count)

    def finish(self) -> None:
        """Runs all jobs to their end."""
        self.loop.run_to_end()

    def events(self, name: str) -> list[JobEvent]:
        """All that was told of a job; takes no more images after it."""
        self.lane.close()
        return self.events_now(name)

    def events_now(self, name: str) -> list[JobEvent]:
        """What was told of a job so far."""
        return [one.event for one in job_reports(self.reports) if one.job_id == name]

    def queued(self, name: str) -> list[tuple[float, JobQueued]]:
        """When a job's caller heard of its position in the queue, and what."""
        self.lane.close()
        return [
            (told_s, r.event)
            for told_s, r in zip(self.told_s, self.reports, strict=True)
            if isinstance(r, JobReport) and r.job_id == name and isinstance(r.event, JobQueued)
        ]

    def failures(self) -> dict[str, type[Exception]]:
        return {r.job_id: type(r.error) for r in self.reports if isinstance(r, JobFailed)}

    def values(self, name: str) -> dict[int, int]:
        """The value of all bytes of each image of a job."""
        return {
            event.image_index: int(np.asarray(Image.open(io.BytesIO(event.content)))[0, 0, 0])
            for event in self.events(name)
            if isinstance(event, JobImage)
        }

    def completed(self, *names: str) -> bool:
        return all(isinstance(self.events(name)[-1], JobCompleted) for name in names)


class StepBench(RunnerBench):
    """A model that is run step by step."""

    paints_previews = True

    def __init__(self, *, memory_images: int = 100, step_s: float = STEP_S) -> None:
        super().__init__()
        bench = self

        class Model(FakeStepModel):
            def denoise(self, inputs: list[FakeTrajectory]) -> list[int]:
                if len(inputs) > memory_images:
                    raise MemoryError
                made = super().denoise(inputs)
                bench.clock.now_s += step_s
                bench.note_step()
                return made

        self.loop = step_loop(
            Model(),
            self.emit,
            max_batch_size=MAX_BATCH_SIZE,
            lane=self.lane,
            clock=self.clock,
        )


class RequestBench(RunnerBench):
    """A model that runs whole requests."""

    paints_previews = False

    def __init__(self, *, memory_images: int = 100, step_s: float = STEP_S) -> None:
        super().__init__()
        model = FakeRequestModel(
            self.clock, memory_images, step_s, during=lambda _: self.note_step()
        )
        self.loop = request_loop(
            model,
            self.emit,
            max_batch_size=MAX_BATCH_SIZE,
            batching=AT_ONCE,
            lane=self.lane,
            clock=self.clock,
        )


def together(name: str, **changes: Any) -> SubmitJob:
    """The command to run a job that may run with others."""
    return shared(name, **changes)


def alone(name: str, **changes: Any) -> SubmitJob:
    """The command to run a job that shares nothing."""
    return shared(name, **({"reproducibility": Reproducibility.EXACT} | changes))
