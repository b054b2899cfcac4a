"""Parameters that a model takes and that the request's other values make ineffective. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from darkroom_server.domain.jobs import ImageSpec, Task
from darkroom_server.domain.models import ModelInfo
from darkroom_server.domain.notices import Notice, NoticeReason
from darkroom_server.domain.pipeline_call import guides_above
from darkroom_server.requests.image_requests import ImageRequest

#: Schedulers that take up to twice as many steps as are asked for.
_SECOND_ORDER = ("Heun", "KDPM2", "DPMSolverSDE")


def without_effect(
    request: ImageRequest, spec: ImageSpec, strength: float, model: ModelInfo
) -> tuple[Notice, ...]:
    """A notice for each, except for parameters that never have an effect on the model."""
    return tuple(
        Notice(NoticeReason.PARAMETER_WITHOUT_EFFECT, f"{field} has no effect {why}", field)
        for field, why in (*_of_guidance(request, spec, model), *_of_steps(spec, strength, model))
    )


def _of_guidance(
    request: ImageRequest, spec: ImageSpec, model: ModelInfo
) -> Iterator[tuple[str, str]]:
    """A negative prompt is what guidance leads away from; up to some scale there is none."""
    scale, none = spec.guidance_scale, guides_above(model.pipeline_class)
    if not (model.parameters.get("negative_prompt") and model.parameters.get("guidance_scale")):
        return
    if spec.negative_prompt and scale <= none:
        yield "negative_prompt", f"at a guidance_scale of {scale:g}"
    if request.guidance_scale is not None and scale <= none and scale not in (0, none):
        yield "guidance_scale", f"up to {none:g}, and {scale:g} is as {none:g}"
    if model.guidance_needs_negative and spec.negative_prompt is None and scale > none:
        yield "guidance_scale", "without a negative_prompt"


def _of_steps(spec: ImageSpec, strength: float, model: ModelInfo) -> Iterator[tuple[str, str]]:
    count = spec.step_count
    if spec.task is not Task.TEXT_TO_IMAGE:
        count = model.strength_rounding.run_step_count(count, strength)
    if any(name in spec.scheduler for name in _SECOND_ORDER):
        count *= 2
    # The last step makes the image itself.
    if spec.preview is not None and spec.preview.interval_step_count >= count:
        yield "preview", f"every {spec.preview.interval_step_count} steps, of which {count} run"
    if spec.feature_cache is not None and count <= 1:
        yield "feature_cache", "where one step runs"
