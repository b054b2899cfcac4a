"""OpenAI's images as they come: partial images, then each whole one, as server-sent events."""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from fastapi import Response

from darkroom_server.domain.errors import DarkroomError, InvalidParameter
from darkroom_server.domain.jobs import ImageFormat, JobImage, JobPreview, PreviewSpec
from darkroom_server.gateway.error_responses import problem_of
from darkroom_server.gateway.event_stream import EventStream, event_text
from darkroom_server.gateway.fields import Fields, whole
from darkroom_server.gateway.image_calls import Begun, ImageMaker
from darkroom_server.gateway.image_results import accepted_headers
from darkroom_server.gateway.request_fields import Manner

MAX_PARTIAL_IMAGE_COUNT = 3
_PARTIAL_EDGE_PX = 1024
#: Where the model is not named, so that its default is not known here.
_USUAL_STEP_COUNT = 20

#: What is counted in tokens elsewhere is not counted here, but clients want every member.
USAGE = {
    "input_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}


def partial_image_count(body: Mapping[str, Any]) -> int:
    """How many partial images a body asks for; raises InvalidParameter."""
    count = whole(body.get("partial_images"), "partial_images") or 0
    if not 0 <= count <= MAX_PARTIAL_IMAGE_COUNT:
        raise InvalidParameter("partial_images", f"is not in 0 to {MAX_PARTIAL_IMAGE_COUNT}")
    return count


async def stream_images(
    maker: ImageMaker, fields: Fields, manner: Manner, kind: str, partial_count: int
) -> Response:
    """A stream once the request is admitted; until then DarkroomError is raised.

    `kind` begins the names of the events.
    """
    if partial_count:
        manner = with_partial_images(maker, fields, manner, partial_count)
    begun = await maker.begin(fields, manner, is_collected=False)
    headers = accepted_headers(begun.accepted, fields.ignored)
    return EventStream(_events(begun, kind, partial_count), headers)


def with_partial_images(
    maker: ImageMaker, fields: Fields, manner: Manner, partial_count: int
) -> Manner:
    """The manner, with `partial_count` previews of each image; raises DarkroomError."""
    step_count = fields.whole("step_count") or _default_step_count(maker, fields)
    interval = max(1, step_count // (partial_count + 1))
    preview = PreviewSpec(interval_step_count=interval, max_edge_px=_PARTIAL_EDGE_PX)
    return replace(manner, preview=preview)


def _default_step_count(maker: ImageMaker, fields: Fields) -> int:
    model = fields.text("model")
    if not model:
        return _USUAL_STEP_COUNT
    return maker.engine.get_model(model).model.defaults.step_count


async def _events(begun: Begun, kind: str, partial_count: int) -> AsyncGenerator[str, None]:
    """The events as text; a failure is the last of them."""
    sent: Counter[int] = Counter()
    async with aclosing(begun.events) as events:
        try:
            async for happened in events:
                if isinstance(happened, JobPreview):
                    if sent[happened.image_index] == partial_count:
                        continue
                    data = _partial(happened, sent[happened.image_index])
                    sent[happened.image_index] += 1
                    yield _text(f"{kind}.partial_image", data)
                elif isinstance(happened, JobImage):
                    yield _text(f"{kind}.completed", _completed(happened))
        except DarkroomError as error:
            yield event_text("error", {"error": problem_of(error).openai})


def _text(name: str, data: dict[str, Any]) -> str:
    return event_text(name, {"type": name, "created_at": int(time.time()), **data})


def _partial(preview: JobPreview, index: int) -> dict[str, Any]:
    return {
        "partial_image_index": index,
        "b64_json": base64.b64encode(preview.content).decode(),
        **_look(ImageFormat.JPEG, preview.width_px, preview.height_px),
    }


def _completed(image: JobImage) -> dict[str, Any]:
    content = base64.b64encode(image.content).decode()
    return {"b64_json": content, **look(image), "usage": USAGE}


def look(image: JobImage) -> dict[str, Any]:
    """The fields of an image besides its bytes."""
    return _look(image.format, image.width_px, image.height_px)


def _look(image_format: ImageFormat, width_px: int, height_px: int) -> dict[str, Any]:
    return {
        "background": "opaque",
        "output_format": image_format.value.removeprefix("image/"),
        "quality": "high",
        "size": f"{width_px}x{height_px}",
    }
