"""Requests that arrive one after another and share their steps in a worker's loop."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from darkroom_server.backends.base import StepModel
from darkroom_server.domain.jobs import ImageSpec, Job, JobImage
from darkroom_server.worker.loop import WorkerLoop
from darkroom_server.worker.messages import JobReport, Report, SubmitJob

#: Bytes of 255 by which a shared step's image may differ from the stock pipeline's, and how many
#: of its values may differ at all.
TOLERATED, TOLERATED_SHARE = 2, 0.02


def served(
    model: StepModel, specs: Sequence[ImageSpec], *, ticks_between: Sequence[int]
) -> list[np.ndarray]:
    """The images of requests that arrive so many ticks after each other."""
    reports: list[Report] = []
    loop = WorkerLoop(model, reports.append, max_batch_size=8)
    for number, (spec, ticks) in enumerate(zip(specs, ticks_between, strict=True)):
        loop.post(SubmitJob(Job(job_id=str(number), spec=spec)))
        for _ in range(ticks):
            loop.tick()
    loop.run_to_end()
    images = {
        report.job_id: np.asarray(Image.open(io.BytesIO(report.event.content)))
        for report in reports
        if isinstance(report, JobReport) and isinstance(report.event, JobImage)
    }
    return [images[str(number)] for number in range(len(specs))]


def staggered(model: StepModel, specs: Sequence[ImageSpec]) -> list[np.ndarray]:
    """The images of requests that arrive none, one and two ticks after each other, and so on."""
    return served(model, specs, ticks_between=[k % 3 for k in range(len(specs))])


def stepped(model: StepModel, spec: ImageSpec) -> np.ndarray:
    """The image of one request by itself, step by step."""
    one = model.begin(spec, model.encode(spec), 0)
    evaluation_count = 0
    while not one.finished:
        model.scatter(one, model.denoise(model.gather([one], model.rows(spec))), 0)
        evaluation_count += 1
    assert one.completed_step_count == one.step_count
    assert evaluation_count == model.evaluations(spec)
    return model.decode(one)


def assert_within_tolerance(made: np.ndarray, wanted: np.ndarray) -> None:
    """A shared step's image against the stock pipeline's."""
    difference = np.abs(made.astype(int) - wanted.astype(int))
    assert difference.max() <= TOLERATED
    assert (difference > 0).mean() <= TOLERATED_SHARE


def assert_equal_among_any_neighbours(
    build: Callable[[], StepModel], specs: Sequence[ImageSpec]
) -> None:
    """Every image has the same bytes alone and in 20 random schedules of neighbours."""
    alone = [served(build(), [spec], ticks_between=[0])[0] for spec in specs]
    for number in range(20):
        rng = random.Random(number)
        order = rng.sample(range(len(specs)), rng.randint(2, min(5, len(specs))))
        ticks = [rng.randint(0, 4) for _ in order]
        made = served(build(), [specs[k] for k in order], ticks_between=ticks)
        for one, k in zip(made, order, strict=True):
            np.testing.assert_array_equal(one, alone[k])
