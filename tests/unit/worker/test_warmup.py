"""What is made before a version serves: each declared size and batch, in rows as requests take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from darkroom_server.backends.fake import FakeStepModel, FakeTrajectory
from darkroom_server.domain.errors import GenerationFailed
from darkroom_server.domain.jobs import ImageSpec, Reproducibility, Task
from darkroom_server.domain.models import Dtype, ModelInfo, Warmup
from darkroom_server.worker.warmup import warm_up
from tests.unit.example_models import FLUX_FILL, SDXL


class Recorder(FakeStepModel):
    """Keeps the rows of each step and the sizes decoded."""

    def __init__(self) -> None:
        super().__init__()
        self.rows_of_steps: list[int] = []
        self.decoded: list[tuple[int, int]] = []

    def gather(self, trajectories: Sequence[FakeTrajectory]) -> list[FakeTrajectory]:
        rows = super().gather(trajectories)
        self.rows_of_steps.append(len(rows))
        return rows

    def decode(self, trajectory: FakeTrajectory) -> Any:
        self.decoded.append((trajectory.spec.width_px, trajectory.spec.height_px))
        return super().decode(trajectory)


def nothing(done_count: int, total_count: int) -> None:
    del done_count, total_count


@pytest.mark.parametrize(
    ("level", "rows"),
    [
        # Guidance takes two rows an image, and eight rows fit into a step.
        pytest.param(Reproducibility.EXACT, [8, 2], id="exact"),
        pytest.param(Reproducibility.TOLERANCE, [8, 2], id="tolerance"),
    ],
)
def test_rule_13_a_batch_takes_the_rows_that_requests_will(
    level: Reproducibility, rows: list[int]
) -> None:
    model = Recorder()
    warmups = (Warmup(width_px=64, height_px=128, batch_size=5),)
    warm_up(model, replace(SDXL, reproducibility=level, warmups=warmups), nothing)
    assert model.rows_of_steps == rows
    assert model.decoded == [(64, 128)] * 5


def test_every_declared_size_is_made_as_often_as_it_says_and_told() -> None:
    model, told = Recorder(), []
    warmups = (
        Warmup(width_px=64, height_px=64),
        Warmup(width_px=128, height_px=64, count=2),
    )
    warm_up(model, replace(SDXL, warmups=warmups), lambda *counts: told.append(counts))
    assert model.decoded == [(64, 64), (128, 64), (128, 64)]
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_model_that_only_fills_is_given_something_to_fill() -> None:
    model = Recorder()
    warm_up(model, replace(FLUX_FILL, warmups=(Warmup(width_px=64, height_px=64),)), nothing)
    assert model.decoded == [(64, 64)]


def test_a_model_that_cannot_make_an_image_says_so() -> None:
    class Broken(FakeStepModel):
        def denoise(self, inputs: list[FakeTrajectory]) -> list[int]:
            del inputs
            raise GenerationFailed("broken")

    info = replace(SDXL, warmups=(Warmup(width_px=64, height_px=64),))
    with pytest.raises(GenerationFailed):
        warm_up(Broken(), info, nothing)


class Whole:
    """A pipeline that runs whole requests, and may tell of its steps."""

    def __init__(self, *, tells_steps: bool) -> None:
        self._tells_steps = tells_steps
        self.runs: list[list[tuple[int, ...]]] = []
        self.ended_count = 0

    def compatible_key(self, spec: ImageSpec) -> tuple[()]:
        del spec
        return ()

    def run(self, specs: Sequence[ImageSpec], on_step: Callable[[int, int], None]) -> Any:
        self.runs.append([spec.seeds for spec in specs])
        if self._tells_steps:
            on_step(1, 20)
        self.ended_count += 1
        return [[np.zeros((64, 64, 3), np.uint8)] for _ in specs]

    def memory_bytes(self) -> int:
        return 0

    def peak_memory_bytes(self) -> int:
        return 0

    def dtype(self) -> Dtype:
        return Dtype.FP32


@pytest.mark.parametrize(("tells_steps", "ended_count"), [(True, 0), (False, 1)])
def test_a_whole_run_is_stopped_at_its_first_step(tells_steps: bool, ended_count: int) -> None:
    model = Whole(tells_steps=tells_steps)
    info: ModelInfo = replace(
        SDXL,
        tasks=frozenset({Task.TEXT_TO_IMAGE}),
        warmups=(Warmup(width_px=64, height_px=64, batch_size=3),),
    )
    warm_up(model, info, nothing)
    assert model.runs == [[(0,), (1,), (2,)]]
    assert model.ended_count == ended_count
