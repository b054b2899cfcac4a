"""How close images by another denoiser come to those by torch."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from darkroom_server.backends.base import ImageArray
from darkroom_server.backends.diffusers.network_choice import use_export
from darkroom_server.backends.diffusers.step_model import AnyFamilyModel
from darkroom_server.domain.jobs import ImageSpec
from darkroom_server.domain.models import DenoiserKind, Dtype


def psnr_db(made: ImageArray, wanted: ImageArray) -> float:
    """Peak signal-to-noise ratio of two images, uint8 [h, w, 3]; infinite for equal ones."""
    error = float(np.mean((made.astype(np.float64) - wanted.astype(np.float64)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def made_by(model: AnyFamilyModel, spec: ImageSpec) -> ImageArray:
    """The image of one request, made alone: uint8 [h, w, 3]."""
    one = model.begin(spec, model.encode(spec), 0)
    while not one.finished:
        model.scatter(one, model.denoise(model.gather([one])), 0)
    return model.decode(one)


def lowest_psnr_db(
    model: AnyFamilyModel,
    spec: ImageSpec,
    graph: Path,
    kind: DenoiserKind,
    *,
    thread_count: int,
) -> float:
    """The PSNR of a request's image by an export, against the model as it is; the model keeps that.

    Raises whatever the runtime raises of a graph that it cannot run.
    """
    by_torch = made_by(model, spec)
    before = model.network, model.decoder
    use_export(model, graph, kind, thread_count=thread_count, compute=Dtype.FP32)
    try:
        return psnr_db(made_by(model, spec), by_torch)
    finally:
        model.network, model.decoder = before
