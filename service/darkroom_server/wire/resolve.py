"""A request meets the model that will run it: defaults, limits, and what the model can honour."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from darkroom_server.domain.errors import InvalidParameter, UnsupportedParameter, WrongTask
from darkroom_server.domain.jobs import (
    FillSpec,
    ImageSpec,
    OutputSpec,
    Reproducibility,
    SourceSpec,
    StrengthRounding,
    Task,
)
from darkroom_server.domain.models import ModelInfo
from darkroom_server.wire.dimensions import Size, output_size
from darkroom_server.wire.notices import Notice, NoticeReason
from darkroom_server.wire.prompt_words import unknown_words
from darkroom_server.wire.requests import (
    ImageRequest,
    OutputRequest,
    UnsupportedParameterPolicy,
)

DEFAULT_QUALITY = 90
#: Image to image: far enough to follow the prompt, near enough to know the image.
DEFAULT_SOURCE_STRENGTH = 0.6
#: Seeds chosen by the server stay below this, so that JSON readers keep them exact.
MAX_CHOSEN_SEED = 2**32 - 1

#: Request fields that a model may not know; the rest belong to every model or to the service.
_MODEL_PARAMETERS = (
    "negative_prompt",
    "width_px",
    "height_px",
    "step_count",
    "guidance_scale",
    "seed",
    "image_count",
    "scheduler",
    "preview",
    "feature_cache",
)
#: The same for Fill, found in `ImageRequest.fill`.
_FILL_PARAMETERS = ("strength", "preserve_unmasked")
#: What a parameter is when nobody asked for it.
_UNSET: Mapping[str, object] = {"image_count": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What will run. A `spec` has no pixels yet; what follows it waits for them."""

    spec: ImageSpec
    strength: float
    preserve_unmasked: bool
    notices: tuple[Notice, ...]

    def with_pixels(self, pixels: FillSpec | SourceSpec, notices: tuple[Notice, ...]) -> Resolved:
        """The same with the pixels to fill or begin with, and what their decoding had to say."""
        given: dict[str, Any] = {"fill" if isinstance(pixels, FillSpec) else "source": pixels}
        return dataclasses.replace(
            self,
            spec=dataclasses.replace(self.spec, **given),
            notices=self.notices + notices,
        )


def resolve(
    request: ImageRequest,
    model: ModelInfo,
    *,
    source: Size | None = None,
    choose_seed: Callable[[int], int],
) -> Resolved:
    """Fills in the model's defaults and holds the request to the model's limits.

    `source` is the size of the image to fill or begin with. `choose_seed(n)` returns a number from
    0 to n - 1 and is called only when the caller gave no seed. Raises WrongTask,
    UnsupportedParameter or InvalidParameter.
    """
    _check_task(request.task, model)
    request, notices = _without_unsupported(request, model)
    size, size_notices = output_size(request, model, source)
    defaults, limits = model.defaults, model.limits
    step_count = defaults.step_count if request.step_count is None else request.step_count
    strength = _strength(request, model)
    _check_at_most("step_count", step_count, limits.max_step_count)
    _check_at_most("image_count", request.image_count, limits.max_image_count)
    _check_strength(request, model, strength, step_count)
    spec = ImageSpec(
        task=request.task,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        width_px=size.width_px,
        height_px=size.height_px,
        step_count=step_count,
        guidance_scale=(
            defaults.guidance_scale if request.guidance_scale is None else request.guidance_scale
        ),
        scheduler=_scheduler(request.scheduler, model),
        reproducibility=_reproducibility(request, model),
        seeds=_seeds(request, choose_seed),
        output=_output(request.output),
        preview=request.preview if model.parameters.get("preview") else None,
        priority=request.priority,
        feature_cache=request.feature_cache,
    )
    notices += size_notices + _without_guidance(spec, model) + unknown_words(spec, model)
    return Resolved(
        spec=spec,
        strength=strength,
        preserve_unmasked=_preserve_unmasked(request, model),
        notices=notices,
    )


def _check_task(task: Task, model: ModelInfo) -> None:
    if task not in model.tasks:
        able = ", ".join(sorted(known.value for known in model.tasks)) or "nothing"
        raise WrongTask("model", f"models/{model.name} does not do {task.value}; it does: {able}")


def _without_unsupported(
    request: ImageRequest, model: ModelInfo
) -> tuple[ImageRequest, tuple[Notice, ...]]:
    """The request less what the model cannot honour, if the caller's policy allows that."""
    notices: list[Notice] = []
    for field in _asked(request):
        effective = model.parameters.get(field)
        if effective is None:
            if request.unsupported_parameter_policy is UnsupportedParameterPolicy.REJECT:
                raise UnsupportedParameter(field, f"models/{model.name} does not take {field}")
            request = _without(request, field)
            text = f"models/{model.name} does not take {field}; it runs without"
            notices.append(Notice(NoticeReason.PARAMETER_IGNORED, text, field))
        elif not effective:
            text = f"{field} has no effect on models/{model.name}"
            notices.append(Notice(NoticeReason.PARAMETER_WITHOUT_EFFECT, text, field))
    return request, tuple(notices)


def _without_guidance(spec: ImageSpec, model: ModelInfo) -> tuple[Notice, ...]:
    """A negative prompt is what guidance leads away from; up to 1 there is none."""
    takes_it = model.parameters.get("negative_prompt")
    if not (takes_it and spec.negative_prompt) or spec.guidance_scale > 1:
        return ()
    text = f"negative_prompt has no effect at a guidance_scale of {spec.guidance_scale:g}"
    return (Notice(NoticeReason.PARAMETER_WITHOUT_EFFECT, text, "negative_prompt"),)


def _asked(request: ImageRequest) -> tuple[str, ...]:
    """The model's parameters that the caller set."""
    places = (
        (request, _MODEL_PARAMETERS),
        (request.fill, _FILL_PARAMETERS),
        (request.source, ("strength",)),
    )
    return tuple(
        field
        for place, fields in places
        if place is not None
        for field in fields
        if getattr(place, field) != _UNSET.get(field)
    )


def _without(request: ImageRequest, field: str) -> ImageRequest:
    unset: dict[str, Any] = {field: _UNSET.get(field)}
    if request.fill is not None and field in _FILL_PARAMETERS:
        return dataclasses.replace(request, fill=dataclasses.replace(request.fill, **unset))
    if request.source is not None and field == "strength":
        return dataclasses.replace(request, source=dataclasses.replace(request.source, **unset))
    return dataclasses.replace(request, **unset)


def _check_at_most(field: str, value: int, highest: int) -> None:
    if value > highest:
        raise InvalidParameter(field, f"{value} is above the {highest} that this model allows")


def _strength(request: ImageRequest, model: ModelInfo) -> float:
    if "strength" not in model.parameters:
        return 1.0
    if request.source is not None:
        asked = request.source.strength
        return DEFAULT_SOURCE_STRENGTH if asked is None else asked
    if request.fill is None or request.fill.strength is None:
        return model.defaults.strength
    return request.fill.strength


def _preserve_unmasked(request: ImageRequest, model: ModelInfo) -> bool:
    if request.fill is None or request.fill.preserve_unmasked is None:
        return model.defaults.preserve_unmasked
    return request.fill.preserve_unmasked


def _check_strength(
    request: ImageRequest, model: ModelInfo, strength: float, step_count: int
) -> None:
    """Strength cuts the schedule short; pipelines refuse to run when nothing of it is left."""
    rounding = model.strength_rounding
    if not (request.fill or request.source) or rounding.run_step_count(step_count, strength) > 0:
        return
    match rounding:
        case StrengthRounding.DOWN:
            needed = f"at least {1 / step_count:.3g}"
        case StrengthRounding.UP:
            needed = "more than 0"
    raise InvalidParameter(
        "strength", f"{strength:g} of {step_count} steps leaves none to run; {needed} is needed"
    )


def _reproducibility(request: ImageRequest, model: ModelInfo) -> Reproducibility:
    """The stricter of the two."""
    return max(model.reproducibility, request.reproducibility or Reproducibility.TOLERANCE)


def _scheduler(asked: str | None, model: ModelInfo) -> str:
    default = model.defaults.scheduler
    if asked is None or asked == default or asked in model.schedulers:
        return asked or default
    compatible = sorted({*model.schedulers, default})
    close = difflib.get_close_matches(asked, compatible, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise InvalidParameter(
        "scheduler",
        f"{asked[:64]!r} does not work with models/{model.name}{hint}"
        f"; compatible: {', '.join(compatible)}",
    )


def _seeds(request: ImageRequest, choose_seed: Callable[[int], int]) -> tuple[int, ...]:
    first = request.seed
    if first is None:
        first = choose_seed(MAX_CHOSEN_SEED + 2 - request.image_count)
    return tuple(range(first, first + request.image_count))


def _output(asked: OutputRequest) -> OutputSpec:
    return OutputSpec(
        format=asked.format,
        quality=DEFAULT_QUALITY if asked.quality is None else asked.quality,
        lossless=asked.lossless,
        embed_metadata=asked.embed_metadata,
    )
