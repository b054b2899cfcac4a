"""What a pipeline's class calls the values of a request, read off its `__call__`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

#: What classes call the guidance; of two, the first is the one that a caller means.
_GUIDANCE = ("guidance_scale", "prior_guidance_scale", "distilled_guidance_scale")
#: What some call it instead, whose `guidance_scale` is of distilled weights only.
_TRUE_GUIDANCE = "true_cfg_scale"
#: Excludes a guidance of all steps, and is set unless it is taken away.
_GUIDANCE_OF_STEPS = "guidance_schedule"


def call_parameters(kind: Any) -> Mapping[str, inspect.Parameter]:
    """What a pipeline's class takes; optimum's pass all on to one of diffusers."""
    made_of = getattr(kind, "auto_model_class", kind)
    return inspect.signature(made_of.__call__).parameters


def guidance_arguments(
    kind: Any, scale: float, *, embeds_guidance: bool = False
) -> dict[str, float | None]:
    """The guidance in the words of a class; `embeds_guidance` says that its weights take it.

    A class that has both names guides by the true one if it does so unless told otherwise.
    """
    parameters = call_parameters(kind)
    true = parameters.get(_TRUE_GUIDANCE)
    if true is not None and true.default is not None and true.default > 1:
        arguments: dict[str, float | None] = {_TRUE_GUIDANCE: scale}
        if embeds_guidance and "guidance_scale" in parameters:
            arguments["guidance_scale"] = scale
        return arguments
    named = next((name for name in _GUIDANCE if name in parameters), None)
    if named is None:
        return {}
    rest = {_GUIDANCE_OF_STEPS: None} if _GUIDANCE_OF_STEPS in parameters else {}
    return {named: scale, **rest}
