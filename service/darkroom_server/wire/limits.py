"""Limits that hold for every request, whatever the model."""

from __future__ import annotations

import math

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.jobs import ImageFormat, PreviewSpec
from darkroom_server.wire.requests import (
    FillInput,
    ImageRequest,
    MaskPolarity,
    OutputRequest,
    SourceInput,
)

MAX_PROMPT_BYTES = 32_768
MAX_NAME_LENGTH = 256
MIN_SIZE_PX, MAX_SIZE_PX = 16, 8192
MAX_STEP_COUNT = 500
MAX_GUIDANCE_SCALE = 100.0
MAX_IMAGE_COUNT = 16
#: The seed of the last image must still fit a signed 64-bit integer.
MAX_SEED = 2**63 - 1 - MAX_IMAGE_COUNT
MIN_PREVIEW_EDGE_PX, MAX_PREVIEW_EDGE_PX = 16, 1024


def check_limits(request: ImageRequest) -> None:
    """Raises InvalidParameter for the first field that is out of its absolute bounds.

    Fields are named by their path in `darkroom.v1`'s requests.
    """
    # With an image there is something to go by: what surrounds the mask, or the image itself.
    has_image = request.fill is not None or request.source is not None
    if not has_image and not request.prompt.strip():
        raise InvalidParameter("prompt", "the prompt is empty; say what to draw")
    _check_text("prompt", request.prompt)
    _check_text("negative_prompt", request.negative_prompt or "")
    _check_int("width_px", request.width_px, MIN_SIZE_PX, MAX_SIZE_PX)
    _check_int("height_px", request.height_px, MIN_SIZE_PX, MAX_SIZE_PX)
    _check_int("step_count", request.step_count, 1, MAX_STEP_COUNT)
    _check_float("guidance_scale", request.guidance_scale, MAX_GUIDANCE_SCALE)
    _check_int("seed", request.seed, 0, MAX_SEED)
    _check_int("image_count", request.image_count, 1, MAX_IMAGE_COUNT)
    check_name("scheduler", request.scheduler or "")
    _check_output(request.output)
    _check_preview(request.preview)
    if request.feature_cache is not None:
        _check_threshold(request.feature_cache.threshold)
    if request.fill is not None:
        _check_fill(request.fill)
    if request.source is not None:
        _check_source(request.source)


def check_name(field: str, name: str, *, required: bool = False) -> None:
    """Raises InvalidParameter when the name of a model, version or scheduler is absurdly long.

    With `required` also when there is none.
    """
    if required and not name:
        raise InvalidParameter(field, f"give a {field}")
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidParameter(field, f"longer than {MAX_NAME_LENGTH} characters")


def check_strength(strength: float | None) -> None:
    """Raises InvalidParameter when it is out of its bounds."""
    _check_float("strength", strength, 1.0)


def _check_text(field: str, text: str) -> None:
    # A lone surrogate, which JSON can smuggle in, has no UTF-8 form; it is counted, then refused.
    encoded = text.encode("utf-8", "surrogatepass")
    if len(encoded) > MAX_PROMPT_BYTES:
        raise InvalidParameter(
            field, f"{len(encoded)} bytes of text; at most {MAX_PROMPT_BYTES} are taken"
        )
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidParameter(field, "the text is not valid Unicode")


def _check_int(field: str, value: int | None, lowest: int, highest: int) -> None:
    if value is not None and not lowest <= value <= highest:
        raise InvalidParameter(field, f"{value} is not between {lowest} and {highest}")


def _check_float(field: str, value: float | None, highest: float) -> None:
    if value is not None and not (math.isfinite(value) and 0 <= value <= highest):
        raise InvalidParameter(field, f"{value} is not between 0 and {highest:g}")


def _check_output(output: OutputRequest) -> None:
    if output.lossless and output.format is not ImageFormat.WEBP:
        raise InvalidParameter("output.lossless", "only WebP can be made lossless by choice")
    _check_int("output.quality", output.quality, 1, 100)
    if output.quality is not None and (output.lossless or output.format is ImageFormat.PNG):
        raise InvalidParameter("output.quality", "leave quality unset for a lossless format")


def _check_preview(preview: PreviewSpec | None) -> None:
    if preview is not None:
        _check_int("preview.interval_step_count", preview.interval_step_count, 1, MAX_STEP_COUNT)
        _check_int(
            "preview.max_edge_px", preview.max_edge_px, MIN_PREVIEW_EDGE_PX, MAX_PREVIEW_EDGE_PX
        )


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise InvalidParameter("feature_cache.threshold", f"{threshold} is not above 0 and up to 1")


def _check_source(source: SourceInput) -> None:
    if not source.image:
        raise InvalidParameter("image.content", "give the image to begin with")
    check_strength(source.strength)


def _check_fill(fill: FillInput) -> None:
    if not fill.image:
        raise InvalidParameter("image.content", "give the image to change")
    if not fill.mask and fill.mask_polarity is not MaskPolarity.TRANSPARENT_REPAINTS:
        raise InvalidParameter("mask.content", "give a mask that says which part to change")
    check_strength(fill.strength)
