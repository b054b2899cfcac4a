"""What fal's clients send and receive, for every way of calling."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from darkroom_server.domain.jobs import ImageFormat, JobImage, JobPreview, JobTimings
from darkroom_server.gateway.error_responses import Problem
from darkroom_server.gateway.fields import Fields
from darkroom_server.gateway.image_results import inference_s
from darkroom_server.gateway.kept_images import KeptImages
from darkroom_server.gateway.request_fields import Manner


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A call: `app` is its address after the prefix; `sync_mode` wants images in the answer."""

    app: str
    model: str
    prompt: str
    sync_mode: bool
    fields: Fields
    manner: Manner


def result(
    kept: KeptImages,
    request: Request,
    asked: Asked,
    images: Sequence[JobImage],
    timings: JobTimings,
) -> dict[str, Any]:
    """The answer of a call whose images were just made; keeps those that are sent as addresses."""
    if asked.sync_mode:
        urls = [data_url(image.format, image.content) for image in images]
    else:
        urls = [kept.address(request, name) for name in kept.keep(images)]
    return shown(urls, images, timings, asked.prompt)


def shown(
    urls: Sequence[str], images: Sequence[JobImage], timings: JobTimings, prompt: str
) -> dict[str, Any]:
    """The answer with these addresses."""
    return {
        "images": [
            {
                "url": url,
                "width": image.width_px,
                "height": image.height_px,
                "content_type": image.format.value,
            }
            for url, image in zip(urls, images, strict=True)
        ],
        "timings": {"inference": inference_s(timings)},
        "seed": images[0].seed if images else None,
        "has_nsfw_concepts": [image.is_filtered for image in images],
        "prompt": prompt,
    }


def partial(preview: JobPreview) -> dict[str, Any]:
    """An image so far."""
    image = {
        "url": data_url(ImageFormat.JPEG, preview.content),
        "width": preview.width_px,
        "height": preview.height_px,
        "content_type": ImageFormat.JPEG.value,
    }
    return {"images": [image], "completed_steps": preview.completed_step_count}


def data_url(image_format: ImageFormat, content: bytes) -> str:
    """The image within its address."""
    return f"data:{image_format.value};base64,{base64.b64encode(content).decode()}"


def render(problem: Problem) -> dict[str, Any]:
    """The error's body: each member is what one of the clients reads."""
    code = problem.openai["code"]
    detail: Any = problem.message
    if problem.param is not None:
        detail = [{"loc": ["body", problem.param], "msg": problem.text, "type": code}]
    text = problem.message
    return {"detail": detail, "message": text, "error": text, "error_type": code}
