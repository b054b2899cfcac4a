"""Images made and thrown away before a version serves: the first request is then like the next.

They also prove that it can make any: a version that cannot never takes the place of one that does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from darkroom_server.backends.base import (
    Encoded,
    Inputs,
    OneTrajectory,
    Outputs,
    RequestModel,
    StepModel,
)
from darkroom_server.domain.jobs import ImageSpec
from darkroom_server.domain.models import ModelInfo
from darkroom_server.worker.trial import trial_spec


class _Enough(Exception):
    """A run has taken its first step."""


def warm_up(
    model: StepModel[Encoded, OneTrajectory, Inputs, Outputs] | RequestModel,
    info: ModelInfo,
    report: Callable[[int, int], None],
) -> None:
    """Makes what the configuration says, each up to its first step, and its decoding if it can.

    `report` is called with the counts of completed and of all warm-ups. Raises the model's error.
    """
    total_count = sum(warmup.count for warmup in info.warmups)
    done_count = 0
    for warmup in info.warmups:
        spec = trial_spec(
            info,
            warmup.width_px,
            warmup.height_px,
            guidance_scale=info.defaults.guidance_scale,
            image_count=warmup.batch_size,
        )
        for _ in range(warmup.count):
            report(done_count, total_count)
            if isinstance(model, RequestModel):
                _run(model, spec)
            else:
                _step(model, spec, info)
            done_count += 1
    report(done_count, total_count)


def _step(
    model: StepModel[Encoded, OneTrajectory, Inputs, Outputs], spec: ImageSpec, info: ModelInfo
) -> None:
    encoded = model.encode(spec)
    images = [model.begin(spec, encoded, index) for index in range(len(spec.seeds))]
    rows = model.rows(spec)
    together = max(1, info.max_batch_size // rows)
    for first in range(0, len(images), together):
        batch = images[first : first + together]
        outputs = model.denoise(model.gather(batch))
        for index, image in enumerate(batch):
            model.scatter(image, outputs, index * rows)
    for image in images:
        model.decode(image)
    model.wait()


def _run(model: RequestModel, spec: ImageSpec) -> None:
    def stop(step_count: int, total_count: int) -> None:
        del step_count, total_count
        raise _Enough

    specs = [replace(spec, seeds=(seed,)) for seed in spec.seeds]
    # Pipelines that report no steps run to their end.
    try:
        model.run(specs, stop)
    except _Enough:
        return
