"""Any pipeline that makes pictures of words, as it is: requests run through its `__call__`.

For pipelines that no family of `families/` takes apart. A request run alone gets the pictures of
the stock pipeline with `torch.Generator("cpu").manual_seed(seed)`. Thread-bound to the worker's
model thread, but for `compatible_key`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import SchedulerMixin
from PIL import Image

from darkroom_server.backends.base import ImageArray
from darkroom_server.backends.diffusers.device import device_of
from darkroom_server.backends.diffusers.memory_use import weight_bytes
from darkroom_server.backends.diffusers.pictures import keep_unmasked, picture
from darkroom_server.backends.diffusers.pipeline_arguments import guidance_arguments
from darkroom_server.backends.diffusers.pipeline_inspection import (
    inspected_call,
    is_pipeline,
    missing_packages,
)
from darkroom_server.backends.diffusers.schedule import PrivateSchedulers
from darkroom_server.backends.diffusers.step_model import DTYPES, kept_dtype
from darkroom_server.domain.errors import (
    GenerationFailed,
    InvalidParameter,
    UnsupportedParameter,
)
from darkroom_server.domain.jobs import FillSpec, ImageSpec, Pixels, Task
from darkroom_server.domain.models import Dtype
from darkroom_server.domain.references import REFERENCE_RULES
from darkroom_server.domain.whole_pipelines import (
    MASKS,
    PICTURES,
    STEPS,
    UNSAID_SETTINGS,
    USUAL_VALUES,
    Refusal,
    RefusalKind,
    beside_of,
    lacks_of_prompt,
    refusal_of,
)

#: Sizes of transformers for which pipelines know the shapes that they were trained with, and draw
#: the nearest of those; they fail for others unless an argument asks for the exact size.
_BINNED_SAMPLE_SIZES = (32, 64, 128, 256)

OnStep = Callable[[int, int], None]
Row = tuple[ImageSpec, int]


def reason_against(name: str, kind: Any) -> str | None:
    """Why a pipeline's class cannot be run, or None when it can."""
    if packages := missing_packages(kind):
        return str(Refusal(RefusalKind.MISSING_PACKAGE, f"needs {', '.join(packages)}"))
    if not is_pipeline(kind) and not hasattr(kind, "auto_model_class"):
        return "is no pipeline of the installed diffusers"
    refusal = refusal_of(name, inspected_call(kind))
    return None if refusal is None else str(refusal)


def reason_against_class(name: str) -> str | None:
    """The same of what the installed diffusers has under a name."""
    return reason_against(name, getattr(diffusers, name, None))


class WholeRequestModel:
    """A loaded pipeline as a `RequestModel`; its class is one that `reason_against` passes."""

    def __init__(self, pipeline: Any, *, allowed_schedulers: Sequence[str]) -> None:
        self._pipeline = pipeline
        self._call = inspected_call(type(pipeline))
        self._accepted = self._call.arguments
        self._picture = self._call.first_of(*PICTURES)
        self._mask = self._call.first_of(*MASKS)
        self._beside = beside_of(self._call)
        if settings := UNSAID_SETTINGS.get(type(pipeline).__name__):
            pipeline.transformer.register_to_config(**settings)
        rule = REFERENCE_RULES.get(type(pipeline).__name__)
        self._takes_lists = rule is not None and rule.max_count > 1
        config = getattr(getattr(pipeline, "transformer", None), "config", {})
        self._sample_size = config.get("sample_size")
        self._embeds_guidance = bool(config.get("guidance_embeds", False))
        unused = {
            name: part
            for name, part in pipeline.components.items()
            if isinstance(part, SchedulerMixin)
        }
        own = unused.pop("scheduler", None)
        self._schedulers = own and PrivateSchedulers(own, allowed=allowed_schedulers)
        self._other_schedulers: Mapping[str, Any] = copy.deepcopy(unused)

    def compatible_key(self, spec: ImageSpec) -> Hashable:
        """Everything but prompts and seeds; whether there is a negative prompt at all counts.

        Raises UnsupportedParameter or InvalidParameter.
        """
        name = type(self._pipeline).__name__
        if spec.negative_prompt is not None and "negative_prompt" not in self._accepted:
            raise UnsupportedParameter("negative_prompt", f"A {name} takes no negative prompt.")
        if spec.task is Task.FILL and self._mask is None:
            raise UnsupportedParameter("mask", f"A {name} takes no mask.")
        if (spec.source or spec.reference_images) and self._picture is None:
            raise UnsupportedParameter("image", f"A {name} takes no picture.")
        if lacking := lacks_of_prompt(name, spec.prompt):
            raise InvalidParameter("prompt", lacking)
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
        """One call of the pipeline for all images of requests with equal keys.

        Where several pictures would be those of one request, a call for each image. Raises
        GenerationFailed for values that are not finite.
        """
        rows = [(spec, seed) for spec in specs for seed in spec.seeds]
        is_list_of_one = specs[0].source is not None and "strength" not in self._accepted
        are_alone = is_list_of_one or specs[0].reference_images
        calls = [[row] for row in rows] if are_alone else [rows]
        made = iter([image for row in calls for image in self._made(row, on_step)])
        images = [[next(made) for _ in spec.seeds] for spec in specs]
        return [_finished(spec, own) for spec, own in zip(specs, images, strict=True)]

    def memory_bytes(self) -> int:
        """Bytes of all parameters and buffers."""
        return weight_bytes(self._pipeline)

    def peak_memory_bytes(self) -> int:
        """The most that torch has taken of a GPU."""
        return device_of(self._pipeline._execution_device).peak_memory_bytes()

    def dtype(self) -> Dtype:
        """That of the pipeline's parts."""
        return DTYPES[self._pipeline.dtype]

    def _made(self, rows: Sequence[Row], on_step: OnStep) -> list[ImageArray]:
        pipeline, first = self._pipeline, rows[0][0]
        for name, scheduler in self._fresh_schedulers(first).items():
            setattr(pipeline, name, scheduler)
        # Some draw a part of their noise from torch's own generator, which no request has seeded.
        torch.manual_seed(rows[0][1])
        with kept_dtype(getattr(pipeline, "vae", None)):
            output = pipeline(**self._arguments(rows), **self._reporting(first, on_step))
        made = output.images if hasattr(output, "images") else output.image
        return [_pixels(image) for image in made]

    def _fresh_schedulers(self, spec: ImageSpec) -> dict[str, Any]:
        """By their parts: a run that was stopped leaves its schedulers somewhere on the way."""
        made = {name: copy.deepcopy(unused) for name, unused in self._other_schedulers.items()}
        if self._schedulers is not None:
            made["scheduler"] = self._schedulers.make(spec.scheduler)
        return made

    def _arguments(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What requests ask for in the pipeline's words; of several images lists."""
        first = rows[0][0]
        arguments: dict[str, Any] = {
            "prompt": _of_rows([spec.prompt for spec, _ in rows]),
            "generator": _of_rows([torch.Generator("cpu").manual_seed(seed) for _, seed in rows]),
            self._call.first_of(*STEPS) or STEPS[0]: first.step_count,
        }
        offered: dict[str, Any] = {
            "width": first.width_px,
            "height": first.height_px,
            # Some scale every picture to about as many pixels as they were trained with.
            "max_area": first.width_px * first.height_px,
            # Not pictures: in those, what is not finite is black.
            "output_type": "np",
        }
        if self._sample_size not in (None, *_BINNED_SAMPLE_SIZES):
            offered["use_resolution_binning"] = False
        arguments |= {name: one for name, one in offered.items() if name in self._accepted}
        if first.negative_prompt is not None:
            arguments["negative_prompt"] = _of_rows([spec.negative_prompt for spec, _ in rows])
        arguments |= guidance_arguments(
            self._call, first.guidance_scale, embeds_guidance=self._embeds_guidance
        )
        for name, value in USUAL_VALUES.get(type(self._pipeline).__name__, {}).items():
            arguments[name] = _of_rows([value] * len(rows))
        return arguments | self._pictures(rows)

    def _pictures(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What requests begin with, in the pipeline's words."""
        shown = [picture(one) for one in rows[0][0].reference_images]
        if shown and rows[0][0].task is Task.EDIT and self._picture is not None:
            return {self._picture: shown if self._takes_lists else shown[0]}
        given = [spec.fill or spec.source for spec, _ in rows]
        pictures = [picture(one.image) for one in given if one is not None]
        if not pictures or self._picture is None:
            return {}
        arguments: dict[str, Any] = {self._picture: _of_rows(pictures)}
        masks = [picture(one.mask) for one in given if isinstance(one, FillSpec)]
        if masks and self._mask is not None:
            arguments[self._mask] = _of_rows(masks)
        if "strength" in self._accepted:
            arguments["strength"] = rows[0][0].strength
        if shown and self._beside is not None:
            arguments[self._beside] = shown[0]
        return arguments

    def _reporting(self, spec: ImageSpec, on_step: OnStep) -> dict[str, Any]:
        """The argument by which the pipeline reports its steps, in either form; or none."""

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


def _of_rows(values: list[Any]) -> Any:
    """A list, or of one image its value: not every pipeline takes lists."""
    return values if len(values) > 1 else values[0]


def _pixels(image: Any) -> ImageArray:
    """Of floats from 0 to 1 [height, width, 3], rounded as the pipelines' own pictures are."""
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"), dtype=np.uint8)
    if not np.isfinite(image).all():
        raise GenerationFailed("The model produced values that are not finite.")
    return (np.asarray(image) * 255).round().astype(np.uint8)


def _finished(spec: ImageSpec, images: list[ImageArray]) -> list[ImageArray]:
    """Images with what a request asks to be kept, scaled where they came in another size."""
    if spec.fill is None or not spec.fill.preserve_unmasked:
        return images
    return [keep_unmasked(image, _scaled(spec.fill, image)) for image in images]


def _scaled(fill: FillSpec, image: ImageArray) -> FillSpec:
    height_px, width_px, _ = image.shape
    if (fill.image.width_px, fill.image.height_px) == (width_px, height_px):
        return fill
    return FillSpec(
        image=_resized(fill.image, width_px, height_px, Image.Resampling.LANCZOS),
        mask=_resized(fill.mask, width_px, height_px, Image.Resampling.NEAREST),
        strength=fill.strength,
        preserve_unmasked=True,
    )


def _resized(pixels: Pixels, width_px: int, height_px: int, resampling: Image.Resampling) -> Pixels:
    resized = picture(pixels).resize((width_px, height_px), resampling)
    return Pixels(width_px, height_px, pixels.channel_count, resized.tobytes())
