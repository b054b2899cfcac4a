"""What a pipeline's class calls the values of a request."""

from __future__ import annotations

from darkroom_server.domain.pipeline_call import PipelineCall
from darkroom_server.domain.whole_pipelines import TRUE_GUIDANCE, guidance_names

#: Excludes a guidance of all steps, and is set unless it is taken away.
_GUIDANCE_OF_STEPS = "guidance_schedule"


def guidance_arguments(
    call: PipelineCall, scale: float, *, embeds_guidance: bool = False
) -> dict[str, float | None]:
    """The guidance in the words of a class; `embeds_guidance` says that its weights take it.

    A class that has both names guides by the true one if it does so by default.
    """
    named = guidance_names(call)
    if not named:
        return {}
    if named[0] == TRUE_GUIDANCE:
        given = named if embeds_guidance and "guidance_scale" in named else named[:1]
        return dict.fromkeys(given, scale)
    rest = {_GUIDANCE_OF_STEPS: None} if _GUIDANCE_OF_STEPS in call.arguments else {}
    return {named[0]: scale, **rest}
