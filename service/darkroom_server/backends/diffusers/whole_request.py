"""Any text-to-image or inpainting pipeline as it is: requests run through its `__call__`.

For pipelines that no family of `families/` takes apart. A request run alone gets the pictures of
the stock pipeline with `torch.Generator("cpu").manual_seed(seed)`. Thread-bound to the worker's
model thread, but for `compatible_key`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

from darkroom_server.backends.base import ImageArray
from darkroom_server.backends.diffusers.memory_use import peak_memory_bytes, weight_bytes
from darkroom_server.backends.diffusers.pictures import keep_unmasked, picture
from darkroom_server.backends.diffusers.pipeline_arguments import (
    call_parameters,
    guidance_arguments,
)
from darkroom_server.backends.diffusers.schedule import PrivateSchedulers
from darkroom_server.backends.diffusers.step_model import DTYPES, kept_dtype
from darkroom_server.domain.errors import GenerationFailed, UnsupportedParameter
from darkroom_server.domain.jobs import ImageSpec, Task
from darkroom_server.domain.models import Dtype

OnStep = Callable[[int, int], None]


_NEEDED = ("prompt", "width", "height", "num_inference_steps", "generator")
#: Arguments of pipelines that make something else, or make it of something else.
_FOREIGN = ("num_frames", "video_length", "frames", "video", "control_video", "control_image")
#: Arguments that requests give, besides the needed ones.
_GIVEN = ("image", "mask_image")


def reason_against(kind: Any) -> str | None:
    """Why a pipeline's class cannot be run, or None when it can."""
    if not (isinstance(kind, type) and issubclass(kind, DiffusionPipeline)):
        return "is no pipeline of the installed diffusers"
    parameters = call_parameters(kind)
    missing = [name for name in _NEEDED if name not in parameters]
    if missing:
        return f"takes no {missing[0]}"
    foreign = [name for name in _FOREIGN if name in parameters]
    if "image" in parameters and "mask_image" not in parameters:
        foreign.append("image")
    foreign += [name for name, one in parameters.items() if _is_required(name, one)]
    if foreign:
        return f"takes {foreign[0]}, and no request has one"
    return None if guidance_arguments(kind, 1.0) else "takes no guidance"


def _is_required(name: str, parameter: inspect.Parameter) -> bool:
    """Whether a call without it fails, and requests give nothing for it."""
    return (
        parameter.default is inspect.Parameter.empty
        and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        and name not in ("self", *_NEEDED, *_GIVEN)
    )


class WholeRequestModel:
    """A loaded pipeline as a `RequestModel`; its class is one that `reason_against` passes."""

    def __init__(self, pipeline: Any, *, allowed_schedulers: Sequence[str]) -> None:
        self._pipeline = pipeline
        self._schedulers = PrivateSchedulers(pipeline.scheduler, allowed=allowed_schedulers)
        self._accepted = frozenset(call_parameters(type(pipeline)))

    def compatible_key(self, spec: ImageSpec) -> Hashable:
        """Everything but prompts and seeds; whether there is a negative prompt at all counts."""
        name = type(self._pipeline).__name__
        if spec.negative_prompt is not None and "negative_prompt" not in self._accepted:
            raise UnsupportedParameter("negative_prompt", f"A {name} takes no negative prompt.")
        if spec.task is Task.FILL and "mask_image" not in self._accepted:
            raise UnsupportedParameter("mask", f"A {name} takes no mask.")
        size = (spec.width_px, spec.height_px)
        schedule = (spec.scheduler, spec.step_count, spec.strength)
        return (
            spec.task,
            size,
            schedule,
            spec.guidance_scale,
            spec.negative_prompt is None,
        )

    def run(self, specs: Sequence[ImageSpec], on_step: OnStep) -> list[list[ImageArray]]:
        """One call of the pipeline for all images of requests with equal keys."""
        pipeline, first = self._pipeline, specs[0]
        # A fresh one: a run that was stopped leaves its scheduler somewhere on the way.
        pipeline.scheduler = self._schedulers.make(first.scheduler)
        with kept_dtype(getattr(pipeline, "vae", None)):
            made = pipeline(**self._arguments(specs), **self._reporting(first, on_step)).images
        rows = iter([_pixels(image) for image in made])
        images = [[next(rows) for _ in spec.seeds] for spec in specs]
        return [_finished(spec, own) for spec, own in zip(specs, images, strict=True)]

    def memory_bytes(self) -> int:
        """Bytes of all parameters and buffers."""
        return weight_bytes(self._pipeline)

    def peak_memory_bytes(self) -> int:
        """The most that torch has taken of a GPU."""
        return peak_memory_bytes(self._pipeline._execution_device)

    def dtype(self) -> Dtype:
        """That of the pipeline's parts."""
        return DTYPES[self._pipeline.dtype]

    def _arguments(self, specs: Sequence[ImageSpec]) -> dict[str, Any]:
        """What requests ask for in the pipeline's words; lists have an item an image."""
        first = specs[0]
        rows = [(spec, seed) for spec in specs for seed in spec.seeds]
        arguments: dict[str, Any] = {
            "prompt": [spec.prompt for spec, _ in rows],
            "width": first.width_px,
            "height": first.height_px,
            "num_inference_steps": first.step_count,
            "generator": [torch.Generator("cpu").manual_seed(seed) for _, seed in rows],
            # Not pictures: in those, what is not finite is black.
            "output_type": "np",
        }
        if first.negative_prompt is not None:
            arguments["negative_prompt"] = [spec.negative_prompt for spec, _ in rows]
        config = getattr(getattr(self._pipeline, "transformer", None), "config", None)
        arguments |= guidance_arguments(
            type(self._pipeline),
            first.guidance_scale,
            embeds_guidance=bool(getattr(config, "guidance_embeds", False)),
        )
        fills = [spec.fill for spec, _ in rows if spec.fill is not None]
        if fills:
            arguments["image"] = [picture(fill.image) for fill in fills]
            arguments["mask_image"] = [picture(fill.mask) for fill in fills]
            if "strength" in self._accepted:
                arguments["strength"] = first.strength
        return arguments

    def _reporting(self, spec: ImageSpec, on_step: OnStep) -> dict[str, Any]:
        """The argument by which the pipeline tells of its steps, in either form; or none."""

        def tell(index: int) -> None:
            on_step(index + 1, getattr(self._pipeline, "num_timesteps", None) or spec.step_count)

        def on_step_end(_: Any, index: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            tell(index)
            return tensors

        def callback(index: int, _: Any, __: Any) -> None:
            tell(index)

        if "callback_on_step_end" in self._accepted:
            return {"callback_on_step_end": on_step_end}
        return {"callback": callback} if "callback" in self._accepted else {}


def _pixels(image: Any) -> ImageArray:
    """Of floats from 0 to 1 [height, width, 3], rounded as the pipelines' own pictures are."""
    if not np.isfinite(image).all():
        raise GenerationFailed("The model produced values that are not finite.")
    return (np.asarray(image) * 255).round().astype(np.uint8)


def _finished(spec: ImageSpec, images: list[ImageArray]) -> list[ImageArray]:
    """Images as requested; raises GenerationFailed for another size."""
    if any(image.shape != (spec.height_px, spec.width_px, 3) for image in images):
        raise GenerationFailed("The pipeline made images of another size.")
    fill = spec.fill
    if fill is not None and fill.preserve_unmasked:
        return [keep_unmasked(image, fill) for image in images]
    return images
