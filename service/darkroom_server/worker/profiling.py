"""What steps and images cost by each denoiser that can be had on this machine."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from darkroom_server.backends.base import (
    Encoded,
    Inputs,
    OneTrajectory,
    Outputs,
    RequestModel,
    StepModel,
)
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import Reproducibility
from darkroom_server.domain.models import (
    Denoiser,
    DenoiserKind,
    DeviceKind,
    Dtype,
    ExportWeights,
    Placement,
    VersionInfo,
)
from darkroom_server.worker.compile_ahead import compile_ahead
from darkroom_server.worker.trial import trial_spec

#: A size in px.
Size = tuple[int, int]
#: A size in px and a number of rows.
Cell = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Seconds of a step by size and rows, of decoding by size, and of an image in such steps.

    The image has the model's default steps and guidance. `setup_s` is what loading and warming up
    took.
    """

    denoiser: Denoiser
    setup_s: float
    step_s: Mapping[Cell, float]
    decode_s: Mapping[Size, float]
    image_s: Mapping[Cell, float]


def candidates() -> Iterator[Denoiser]:
    """Every denoiser that a configuration can name, the stock one first."""
    yield Denoiser()
    yield Denoiser(kind=DenoiserKind.TORCH_COMPILE)
    for weights in ExportWeights:
        yield Denoiser(kind=DenoiserKind.ONNXRUNTIME, weights=weights)
    for weights in ExportWeights:
        for compute in (Dtype.FP32, Dtype.BF16):
            yield Denoiser(kind=DenoiserKind.OPENVINO, weights=weights, compute=compute)


def profile(
    version: VersionInfo,
    denoiser: Denoiser,
    cells: Sequence[Cell],
    *,
    thread_count: int,
    repeat_count: int,
    on_cell: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> Profile:
    """Measures every cell, the best of some repeats.

    Raises ModelUnavailable with the reason; ValueError for a pipeline that runs whole.
    """
    # Imported here: only the worker's side needs torch.
    from darkroom_server.backends.diffusers.loader import load_model

    sizes = tuple(dict.fromkeys((width_px, height_px) for width_px, height_px, _ in cells))
    compiled = sizes if denoiser.kind is DenoiserKind.TORCH_COMPILE else ()
    info = dataclasses.replace(
        version.model,
        denoiser=dataclasses.replace(denoiser, compiled_sizes=compiled),
        dtype=Dtype.AUTO,
        reproducibility=Reproducibility.TOLERANCE,
    )
    started_s = clock()
    model = load_model(
        dataclasses.replace(version, model=info),
        Placement(DeviceKind.CPU if denoiser.kind.is_exported else DeviceKind.AUTO),
        thread_count=thread_count,
        prompts=PromptCache(max_bytes=64 << 20),
    )
    if isinstance(model, RequestModel):
        raise ValueError("the requests of this pipeline run whole: it has no steps to measure")
    compile_ahead(model, info)
    model.end_warm_up()
    setup_s = clock() - started_s
    least_s = partial(_least_s, model, repeat_count=repeat_count, clock=clock)
    step_s: dict[Cell, float] = {}
    decode_s: dict[Size, float] = {}
    image_s: dict[Cell, float] = {}
    for cell in cells:
        size, row_count = cell[:2], cell[2]
        one = model.begin(spec := trial_spec(info, *size), model.encode(spec), 0)
        step_s[cell] = least_s(partial(_take_step, model, one, row_count))
        if size not in decode_s:
            decode_s[size] = least_s(partial(model.decode, one))
        guided = trial_spec(info, *size, guidance_scale=info.defaults.guidance_scale)
        share = model.rows(guided) / row_count
        image_s[cell] = model.evaluations(guided) * share * step_s[cell] + decode_s[size]
        on_cell()
    return Profile(
        denoiser=denoiser, setup_s=setup_s, step_s=step_s, decode_s=decode_s, image_s=image_s
    )


def _take_step(
    model: StepModel[Encoded, OneTrajectory, Inputs, Outputs], one: OneTrajectory, row_count: int
) -> None:
    model.denoise(model.gather([one] * row_count))


def _least_s(
    model: StepModel[Encoded, OneTrajectory, Inputs, Outputs],
    work: Callable[[], object],
    *,
    repeat_count: int,
    clock: Callable[[], float],
) -> float:
    """The best of some repeats and one that warms up."""
    durations_s = []
    for _ in range(repeat_count + 1):
        started_s = clock()
        work()
        model.wait()
        durations_s.append(clock() - started_s)
    return min(durations_s)


def gain(found: Profile, stock: Profile) -> float:
    """How many times as fast images are as by the stock denoiser: the geometric mean of cells."""
    logs = [math.log(stock.image_s[cell] / image_s) for cell, image_s in found.image_s.items()]
    return math.exp(sum(logs) / len(logs))


def recommended(profiles: Iterable[Profile], stock: Profile, *, lossy: bool) -> Denoiser:
    """The fastest; only those with FP32 weights and arithmetic unless `lossy`.

    Something else than the stock denoiser must be 5% faster to be worth it.
    """
    best, best_gain = stock.denoiser, 1.05
    for one in profiles:
        is_exact = one.denoiser.weights is ExportWeights.FP32 and (
            one.denoiser.compute is Dtype.FP32
        )
        if (is_exact or lossy) and gain(one, stock) > best_gain:
            best, best_gain = one.denoiser, gain(one, stock)
    return best
