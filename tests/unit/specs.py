"""Builders of values that many unit tests need."""

from __future__ import annotations

from typing import Any

from darkroom_server.domain.jobs import ImageSpec, Job, Task


def image_spec(**changes: Any) -> ImageSpec:
    values: dict[str, Any] = {
        "task": Task.TEXT_TO_IMAGE,
        "prompt": "anything",
        "negative_prompt": None,
        "width_px": 16,
        "height_px": 8,
        "step_count": 3,
        "guidance_scale": 1.0,
        "scheduler": "FakeScheduler",
        "seeds": (10,),
    }
    return ImageSpec(**(values | changes))


def job(
    job_id: str = "a",
    *,
    deadline_s: float | None = None,
    caller: str = "",
    weight: float = 1.0,
    **changes: Any,
) -> Job:
    return Job(
        job_id=job_id,
        spec=image_spec(**changes),
        deadline_s=deadline_s,
        caller=caller,
        weight=weight,
    )
