"""Steps taken before a version serves, so that no request waits for a compiler."""

from __future__ import annotations

import time

import structlog

from darkroom_server.backends.base import Encoded, Inputs, OneTrajectory, Outputs, StepModel
from darkroom_server.domain.models import DenoiserKind, ModelInfo
from darkroom_server.worker.trial import trial_spec

log = structlog.get_logger(__name__)


def compile_ahead(
    model: StepModel[Encoded, OneTrajectory, Inputs, Outputs], info: ModelInfo
) -> None:
    """Runs a step of each size that is to be compiled with each number of rows that differs."""
    if info.denoiser.kind is DenoiserKind.TORCH:
        return
    started_s = time.monotonic()
    for width_px, height_px in _sizes(info):
        spec = trial_spec(info, width_px, height_px)
        one = model.begin(spec, model.encode(spec), 0)
        for row_count in row_counts(info):
            model.denoise(model.gather([one] * row_count))
    model.wait()
    log.info(
        "compiled",
        denoiser=info.denoiser.label,
        duration_s=round(time.monotonic() - started_s, 3),
        graph_count=model.compile_counts().graph_count,
    )


def row_counts(info: ModelInfo) -> list[int]:
    """One row, two (from there on a graph leaves the number open), and the largest batch."""
    return sorted({1, 2, info.max_batch_size})


def _sizes(info: ModelInfo) -> list[tuple[int, int]]:
    default = (info.defaults.width_px, info.defaults.height_px)
    return list(dict.fromkeys((default, *info.denoiser.compiled_sizes)))
