"""Models to resolve requests against: one like SDXL, one like FLUX.1 Fill, one like schnell."""

from __future__ import annotations

from dataclasses import replace

from darkroom_server.domain.jobs import Reproducibility, Task
from darkroom_server.domain.model_status import ModelStatus, VersionState, VersionStatus
from darkroom_server.domain.models import (
    BackendKind,
    Defaults,
    DeviceKind,
    Dtype,
    Limits,
    ModelInfo,
    Placement,
)

COMMON_PARAMETERS = (
    "prompt",
    "width_px",
    "height_px",
    "step_count",
    "guidance_scale",
    "seed",
    "image_count",
    "scheduler",
    "output",
)
FILL_PARAMETERS = ("image", "mask", "mask_polarity", "strength", "preserve_unmasked")

SDXL = ModelInfo(
    name="sdxl",
    display_name="SDXL",
    hub_id="example/sdxl",
    aliases=("xl",),
    license="MIT",
    tasks=frozenset({Task.TEXT_TO_IMAGE, Task.FILL}),
    pipeline_class="StableDiffusionXLPipeline",
    backend=BackendKind.FAKE,
    dtype=Dtype.FP32,
    placements=(Placement(DeviceKind.CPU),),
    defaults=Defaults(
        width_px=256,
        height_px=256,
        step_count=20,
        guidance_scale=5.0,
        scheduler="EulerDiscreteScheduler",
    ),
    limits=Limits(
        min_size_px=64,
        max_size_px=1024,
        size_multiple_px=8,
        max_pixel_count=512 * 1024,
        max_step_count=100,
        max_image_count=4,
    ),
    schedulers=("DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler"),
    parameters=dict.fromkeys((*COMMON_PARAMETERS, "negative_prompt", *FILL_PARAMETERS), True),
    max_batch_size=8,
    reproducibility=Reproducibility.EXACT,
    max_queue_size=8,
    version_labels={},
)
FLUX_FILL = replace(
    SDXL,
    name="flux-fill",
    tasks=frozenset({Task.FILL}),
    limits=replace(SDXL.limits, size_multiple_px=16, max_pixel_count=1024 * 1024),
    schedulers=("FlowMatchEulerDiscreteScheduler",),
    defaults=replace(SDXL.defaults, scheduler="FlowMatchEulerDiscreteScheduler", step_count=50),
    parameters=dict.fromkeys((*COMMON_PARAMETERS, *FILL_PARAMETERS), True),
)
FLUX_SCHNELL = replace(
    FLUX_FILL,
    name="flux-schnell",
    tasks=frozenset({Task.TEXT_TO_IMAGE}),
    parameters={**dict.fromkeys(COMMON_PARAMETERS, True), "guidance_scale": False},
)


def status(
    model: ModelInfo = SDXL,
    *states: VersionState,
    default_version: int | None = 1,
) -> ModelStatus:
    """A model whose version n has the n-th state; READY alone when none is given."""
    states = states or (VersionState.READY,)
    versions = tuple(
        VersionStatus(version=number, state=state, digest="ab" * 32)
        for number, state in enumerate(states, 1)
    )
    return ModelStatus(
        model=model, versions=tuple(reversed(versions)), default_version=default_version
    )
