"""Requests that nobody made, for measuring and warming up a model before it serves."""

from __future__ import annotations

from darkroom_server.domain.jobs import FillSpec, ImageSpec, Pixels, SourceSpec, Task
from darkroom_server.domain.models import ModelInfo
from darkroom_server.domain.whole_pipelines import trial_prompt


def trial_spec(
    info: ModelInfo,
    width_px: int,
    height_px: int,
    *,
    prompt: str = "",
    guidance_scale: float = 0.0,
    image_count: int = 1,
) -> ImageSpec:
    """A request of the model's defaults at a size; over a blank to a model that needs a picture.

    Without guidance an image takes one row, so that every number of rows can be had.
    """
    defaults = info.defaults
    usual = (Task.TEXT_TO_IMAGE, Task.EDIT, Task.FILL, Task.IMAGE_TO_IMAGE)
    task = next(task for task in usual if task in info.tasks)
    blank = _blank(width_px, height_px)
    rule = info.references
    is_shown = task is Task.EDIT or (rule is not None and rule.is_beside and rule.is_required)
    return ImageSpec(
        task=task,
        prompt=prompt or trial_prompt(info.pipeline_class),
        negative_prompt=None,
        width_px=width_px,
        height_px=height_px,
        step_count=defaults.step_count,
        guidance_scale=guidance_scale,
        scheduler=defaults.scheduler,
        seeds=tuple(range(image_count)),
        reproducibility=info.reproducibility,
        fill=blank if task is Task.FILL else None,
        source=SourceSpec(image=blank.image, strength=1.0) if task is Task.IMAGE_TO_IMAGE else None,
        reference_images=(blank.image,) if is_shown else (),
    )


def _blank(width_px: int, height_px: int) -> FillSpec:
    count = width_px * height_px
    return FillSpec(
        image=Pixels(width_px, height_px, 3, bytes(3 * count)),
        mask=Pixels(width_px, height_px, 1, b"\xff" * count),
        strength=1.0,
        preserve_unmasked=False,
    )
