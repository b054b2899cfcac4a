"""`python -m bench.checkpoint_cost`: what it costs to keep pictures on their way, in one process.

Two loops on one embedded model, one of which keeps its images every three steps, take turns, A B A
B, each for three steps. Reported are the medians of both, their ratio, and the part of its time
that the second loop spends on keeping.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog
from rich.console import Console
from rich.table import Table

from bench.exact_cost import load
from darkroom_server.backends.base import StepModel
from darkroom_server.domain.jobs import ImageSpec, Job, Reproducibility
from darkroom_server.domain.models import Dtype
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.worker import checkpoints
from darkroom_server.worker.checkpoint_file import CheckpointFile
from darkroom_server.worker.loop import WorkerLoop
from darkroom_server.worker.messages import SubmitJob
from darkroom_server.worker.step_runner import step_loop
from darkroom_server.worker.trial import trial_spec

ROOT = Path(__file__).parents[1]
MODELS = ("tiny-sdxl", "tiny-flux-schnell")
STEP_COUNT, MAX_IMAGES = 45, 8
ROOM_BYTES = 256 << 20
#: Turns of each loop, after one that is not counted.
TURNS = STEP_COUNT // checkpoints.STEPS_BETWEEN - 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Medians of three steps in seconds, and the part of them that keeping took."""

    without_s: float
    with_s: float
    share: float


def measured(model: StepModel[Any, Any, Any, Any], spec: ImageSpec, image_count: int) -> Cost:
    """Images that all begin at once, with and without being kept."""
    file = CheckpointFile.create(ROOM_BYTES)
    loops = [_loop(model, spec, image_count, kept) for kept in (None, file)]
    keeping = _Timed(checkpoints.Checkpoints.save)
    checkpoints.Checkpoints.save = keeping  # type: ignore[method-assign,assignment]
    try:
        seconds: list[list[float]] = [[], []]
        for turn in range(TURNS + 1):
            for loop, taken in zip(loops, seconds, strict=True):
                started_s = time.perf_counter()
                for _ in range(checkpoints.STEPS_BETWEEN):
                    loop.tick()
                if turn:
                    taken.append(time.perf_counter() - started_s)
    finally:
        checkpoints.Checkpoints.save = keeping.function  # type: ignore[method-assign]
    for loop in loops:
        loop.run_to_end()
    file.close()
    without, kept = (statistics.median(taken) for taken in seconds)
    return Cost(without_s=without, with_s=kept, share=sum(keeping.seconds) / sum(seconds[1]))


class _Timed:
    """Calls a method, and keeps how long the calls took."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function
        self.seconds: list[float] = []

    def __get__(self, owner: object, kind: object) -> Callable[..., None]:
        def timed(images: Sequence[Any]) -> None:
            started_s = time.perf_counter()
            self.function(owner, images)
            self.seconds.append(time.perf_counter() - started_s)

        return timed


def _loop(
    model: StepModel[Any, Any, Any, Any],
    spec: ImageSpec,
    image_count: int,
    file: CheckpointFile | None,
) -> WorkerLoop[Any]:
    loop = step_loop(model, lambda _: None, max_batch_size=2 * MAX_IMAGES, checkpoints=file)
    for number in range(image_count):
        loop.post(SubmitJob(Job(job_id=str(number), spec=spec)))
    loop.tick()
    return loop


def main() -> None:
    """Prints the table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--sizes", nargs="*", type=int, default=[64, 256])
    parser.add_argument("--images", nargs="*", type=int, default=[1, 4, MAX_IMAGES])
    options = parser.parse_args()
    console = Console()
    table = Table("model", "px", "images", "without ms", "with ms", "ratio", "keeping")
    for one in ModelRepository(ROOT / "model_repo").scan().models:
        if one.info.name not in options.models:
            continue
        model, info = load(one.versions[0], Dtype.FP32, 1)
        for size_px in options.sizes:
            spec = trial_spec(info, size_px, size_px, guidance_scale=info.defaults.guidance_scale)
            spec = dataclasses.replace(
                spec, step_count=STEP_COUNT, reproducibility=Reproducibility.TOLERANCE
            )
            for image_count in options.images:
                cost = measured(model, spec, image_count)
                row = (
                    *(info.name, str(size_px), str(image_count)),
                    *(f"{1000 * cost.without_s:.1f}", f"{1000 * cost.with_s:.1f}"),
                    *(f"{cost.with_s / cost.without_s:.3f}", f"{cost.share:.2%}"),
                )
                console.print(*row)
                table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
