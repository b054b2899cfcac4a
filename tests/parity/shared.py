"""Requests that arrive one after another and share their steps in a worker's loop."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from darkroom_server.backends.base import StepModel
from darkroom_server.domain.jobs import ImageSpec, Job, JobImage, Reproducibility
from darkroom_server.scheduling.shared_rows import SharedRows
from darkroom_server.worker.messages import JobReport, Report, SubmitJob
from darkroom_server.worker.proving import Prover
from darkroom_server.worker.step_runner import step_loop

#: Bytes of 255 by which a shared step's image may differ from the stock pipeline's, and how many
#: of its values may differ at all.
TOLERATED, TOLERATED_SHARE = 2, 0.02


MAX_BATCH_SIZE = 8
#: Images of a step, in the mean, that a crowd of requests must at least have shared.
LEAST_SHARED = 1.5


def proved(model: StepModel, specs: Sequence[ImageSpec]) -> Prover:
    """All that requests may share at EXACT."""
    tasks = frozenset(spec.task for spec in specs)
    prover = Prover(model, SharedRows(), max_rows=MAX_BATCH_SIZE, tasks=tasks)
    for spec in specs:
        if spec.reproducibility is Reproducibility.EXACT:
            prover.ask(spec)
    prover.finish()
    return prover


def served(
    model: StepModel,
    specs: Sequence[ImageSpec],
    *,
    ticks_between: Sequence[int],
    prover: Prover | None = None,
) -> list[np.ndarray]:
    """The images of requests that arrive so many ticks after each other.

    Without a `prover` that has done so, what they may share is proved before.
    """
    reports: list[Report] = []
    prover = prover or proved(model, specs)
    # Time stands still: who shares a step hangs on who is there, not on how fast this machine is.
    loop = step_loop(
        model, reports.append, max_batch_size=MAX_BATCH_SIZE, prover=prover, clock=lambda: 0.0
    )
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


def shared_exactly(
    model: StepModel, specs: Sequence[ImageSpec], monkeypatch: pytest.MonkeyPatch
) -> list[np.ndarray]:
    """As `staggered`, of requests at EXACT, which must have shared steps."""
    image_counts: list[int] = []
    prover = proved(model, specs)
    gather = model.gather

    def watched(trajectories: Sequence[Any]) -> Any:
        image_counts.append(len(trajectories))
        return gather(trajectories)

    monkeypatch.setattr(model, "gather", watched)
    ticks = [k % 3 for k in range(len(specs))]
    made = served(model, specs, ticks_between=ticks, prover=prover)
    assert sum(image_counts) / len(image_counts) > LEAST_SHARED
    return made


def stepped(model: StepModel, spec: ImageSpec) -> np.ndarray:
    """The image of one request by itself, step by step."""
    one = model.begin(spec, model.encode(spec), 0)
    evaluation_count = 0
    while not one.finished:
        model.scatter(one, model.denoise(model.gather([one])), 0)
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
    model = build()
    prover = proved(model, specs)
    alone = [served(model, [spec], ticks_between=[0], prover=prover)[0] for spec in specs]
    for number in range(20):
        rng = random.Random(number)
        order = rng.sample(range(len(specs)), rng.randint(2, min(5, len(specs))))
        ticks = [rng.randint(0, 4) for _ in order]
        made = served(model, [specs[k] for k in order], ticks_between=ticks, prover=prover)
        for one, k in zip(made, order, strict=True):
            np.testing.assert_array_equal(one, alone[k])
