"""The VAE's decoder for another runtime, which is kept where it is faster than torch's."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from darkroom_server.backends.diffusers.network_choice import open_graph
from darkroom_server.backends.diffusers.networks.exported import ExportedDecoder
from darkroom_server.backends.diffusers.step_model import AnyFamilyModel
from darkroom_server.backends.exports import decoder_path
from darkroom_server.domain.jobs import ImageSpec
from darkroom_server.domain.models import DenoiserKind, Dtype

#: What is not this many times as fast as torch is not worth its place.
LEAST_GAIN = 1.05
#: Timed decodings of each after one to warm up, interleaved; the quickest counts.
_REPEATS = 3


def keep_if_faster(
    model: AnyFamilyModel,
    spec: ImageSpec,
    folder: Path,
    kind: DenoiserKind,
    *,
    thread_count: int,
    clock: Callable[[], float] = time.perf_counter,
) -> float | None:
    """How many times as fast as torch the decoder in a folder is for a request's image.

    None where it is not faster: then it is there no more.
    """
    path = decoder_path(folder, kind)
    latents = model.unpacked(model.begin(spec, model.encode(spec), 0).latents, spec)
    by_graph = ExportedDecoder(
        open_graph(path, kind, thread_count=thread_count, compute=Dtype.FP32)
    )
    torch_s, graph_s = [], []
    for _ in range(1 + _REPEATS):
        torch_s.append(_duration_s(model.decoder, latents, clock))
        graph_s.append(_duration_s(by_graph, latents, clock))
    gain = min(torch_s[1:]) / min(graph_s[1:])
    if gain >= LEAST_GAIN:
        return gain
    for part in folder.glob(f"{path.stem}.*"):
        part.unlink()
    return None


@torch.inference_mode()
def _duration_s(
    decode: Callable[[torch.Tensor], torch.Tensor],
    latents: torch.Tensor,
    clock: Callable[[], float],
) -> float:
    started_s = clock()
    decode(latents)
    return clock() - started_s
