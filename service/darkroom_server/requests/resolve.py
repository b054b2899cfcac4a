"""A request meets the model that will run it: defaults, limits, and what the model can honour."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from darkroom_server.domain.adapters import AdapterVersion
from darkroom_server.domain.errors import InvalidParameter, UnsupportedParameter, WrongTask
from darkroom_server.domain.image_size import Size
from darkroom_server.domain.jobs import (
    FillSpec,
    ImageSpec,
    OutputSpec,
    Pixels,
    Reproducibility,
    SourceSpec,
    StrengthRounding,
    Task,
    UnsupportedParameterPolicy,
)
from darkroom_server.domain.models import ModelInfo
from darkroom_server.domain.notices import Notice, NoticeReason
from darkroom_server.parameters.bounds import DEFAULT_QUALITY, DEFAULT_SOURCE_STRENGTH
from darkroom_server.parameters.parameter import EVERY_TASK, Default, Parameter
from darkroom_server.parameters.table import PARAMETERS
from darkroom_server.requests.adapters import adapter_uses
from darkroom_server.requests.dimensions import output_size
from darkroom_server.requests.effects import without_effect
from darkroom_server.requests.image_requests import (
    ImageRequest,
    OutputRequest,
    is_set,
    value_of,
    without,
)
from darkroom_server.requests.prompt_words import unknown_words
from darkroom_server.requests.unsupported import refusal
from darkroom_server.requests.untrained_sizes import untrained_sizes

#: Seeds chosen by the server stay below this, so that JSON readers keep them exact.
MAX_CHOSEN_SEED = 2**32 - 1

#: Those that a model may not honour, by the names that models list.
_REFUSABLE: Mapping[str, Parameter] = {
    one.name: one for one in PARAMETERS.values() if one.can_be_refused
}
#: Those that are run as they were set, or as the model's defaults say.
_AS_SET = tuple(
    one
    for one in PARAMETERS.values()
    if one.path in {field.name for field in dataclasses.fields(ImageSpec)}
    and one.tasks == EVERY_TASK
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What will run. A `spec` has no pixels yet; what follows it waits for them."""

    spec: ImageSpec
    strength: float
    preserve_unmasked: bool
    notices: tuple[Notice, ...]
    #: Where it is another than the caller's.
    rewritten_prompt: str = ""

    def with_prompt(self, prompt: str | None, notices: tuple[Notice, ...]) -> Resolved:
        """The same with another prompt, if there is one, and what its writing had to say."""
        notices = self.notices + notices
        if prompt is None:
            return dataclasses.replace(self, notices=notices)
        spec = dataclasses.replace(self.spec, prompt=prompt)
        return dataclasses.replace(self, spec=spec, notices=notices, rewritten_prompt=prompt)

    def with_references(self, images: Sequence[Pixels], notices: tuple[Notice, ...]) -> Resolved:
        """The same with the reference images."""
        return dataclasses.replace(
            self,
            spec=dataclasses.replace(self.spec, reference_images=tuple(images)),
            notices=self.notices + notices,
        )

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
    adapters: Sequence[AdapterVersion] = (),
    choose_seed: Callable[[int], int],
) -> Resolved:
    """Fills in the model's defaults and holds the request to the model's limits.

    `adapters` are the model's. `source` is the size of the image to fill, begin with or refer to.
    `choose_seed(n)` returns a number from 0 to n - 1 and is called only when the caller gave no
    seed. Raises WrongTask, UnsupportedParameter or InvalidParameter.
    """
    _check_task(request.task, model)
    request, notices = _without_unsupported(request, model)
    size, size_notices = output_size(request, model, source)
    as_set = {one.path: _value(request, one, model) for one in _AS_SET}
    strength = _strength(request, model)
    _check_highest(as_set | {"image_count": request.image_count}, model)
    _check_strength(request, model, strength, as_set["step_count"])
    given = as_set | {
        "width_px": size.width_px,
        "height_px": size.height_px,
        "scheduler": _scheduler(request.scheduler, model),
        "reproducibility": _reproducibility(request, model),
        "seeds": _seeds(request, choose_seed),
        "output": _output(request.output),
        "preview": request.preview if model.parameters.get("preview") else None,
        "feature_cache": request.feature_cache,
        "adapters": adapter_uses(request, model.name, adapters),
    }
    spec = ImageSpec(task=request.task, **given)
    notices += size_notices + untrained_sizes(spec, model)
    notices += without_effect(request, spec, strength, model)
    notices += unknown_words(spec, model)
    return Resolved(
        spec=spec,
        strength=strength,
        preserve_unmasked=_preserve_unmasked(request, model),
        notices=notices,
    )


def _check_task(task: Task, model: ModelInfo) -> None:
    if task in model.tasks:
        return
    if task is Task.IMAGE_TO_IMAGE and Task.EDIT in model.tasks:
        text = f"models/{model.name} begins with no image; it edits images in reference_images"
        raise WrongTask("image", text)
    able = ", ".join(sorted(known.value for known in model.tasks)) or "nothing"
    raise WrongTask("model", f"models/{model.name} does not do {task.value}; it does: {able}")


def _without_unsupported(
    request: ImageRequest, model: ModelInfo
) -> tuple[ImageRequest, tuple[Notice, ...]]:
    """The request less what the model cannot honour, if the caller's policy allows that."""
    notices: list[Notice] = []
    for field, parameter in _REFUSABLE.items():
        if not is_set(request, parameter):
            continue
        effective = model.parameters.get(field)
        if effective is None:
            if request.unsupported_parameter_policy is UnsupportedParameterPolicy.REJECT:
                raise UnsupportedParameter(field, refusal(field, model))
            request = without(request, parameter)
            text = f"{refusal(field, model)}; it runs without"
            notices.append(Notice(NoticeReason.PARAMETER_IGNORED, text, field))
        elif not effective:
            text = f"{field} has no effect on models/{model.name}"
            notices.append(Notice(NoticeReason.PARAMETER_WITHOUT_EFFECT, text, field))
    return request, tuple(notices)


def _value(request: ImageRequest, parameter: Parameter, model: ModelInfo) -> Any:
    value, default = value_of(request, parameter), parameter.default
    if value is not None or default is Default.NONE:
        return value
    return getattr(model.defaults, parameter.path) if default is Default.MODEL else default


def _check_highest(values: Mapping[str, Any], model: ModelInfo) -> None:
    """Holds counts to the model's limits; sizes are checked where they are rounded."""
    for path, value in values.items():
        parameter = PARAMETERS[path]
        if not parameter.model_highest or parameter.model_step:
            continue
        highest = getattr(model.limits, parameter.model_highest)
        if value > highest:
            raise InvalidParameter(path, f"{value} is above the {highest} that this model allows")


def _strength(request: ImageRequest, model: ModelInfo) -> float:
    if "strength" not in model.parameters or request.task is Task.EDIT:
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
