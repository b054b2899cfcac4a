"""Requests of `darkroom.v1.ImageService` become the service's own values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from darkroom.v1 import image_pb2, image_service_pb2
from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.jobs import (
    FeatureCache,
    ImageFormat,
    PreviewSpec,
    Priority,
    Reproducibility,
    Task,
)
from darkroom_server.domain.models import ModelRef
from darkroom_server.wire.limits import check_limits, check_name
from darkroom_server.wire.requests import (
    DimensionPolicy,
    FillInput,
    ImageRequest,
    MaskPolarity,
    OutputRequest,
    SourceInput,
    UnsupportedParameterPolicy,
)

_Value = TypeVar("_Value")
_Request = image_service_pb2.GenerateRequest | image_service_pb2.FillRequest

_FORMATS: Mapping[int, ImageFormat] = {
    image_pb2.OUTPUT_FORMAT_UNSPECIFIED: ImageFormat.PNG,
    image_pb2.OUTPUT_FORMAT_PNG: ImageFormat.PNG,
    image_pb2.OUTPUT_FORMAT_JPEG: ImageFormat.JPEG,
    image_pb2.OUTPUT_FORMAT_WEBP: ImageFormat.WEBP,
}
_PRIORITIES: Mapping[int, Priority] = {
    image_pb2.PRIORITY_UNSPECIFIED: Priority.NORMAL,
    image_pb2.PRIORITY_LOW: Priority.LOW,
    image_pb2.PRIORITY_NORMAL: Priority.NORMAL,
    image_pb2.PRIORITY_HIGH: Priority.HIGH,
}
_UNSUPPORTED_POLICIES: Mapping[int, UnsupportedParameterPolicy] = {
    image_pb2.UNSUPPORTED_PARAMETER_POLICY_UNSPECIFIED: UnsupportedParameterPolicy.REJECT,
    image_pb2.UNSUPPORTED_PARAMETER_POLICY_REJECT: UnsupportedParameterPolicy.REJECT,
    image_pb2.UNSUPPORTED_PARAMETER_POLICY_IGNORE: UnsupportedParameterPolicy.IGNORE,
}
_DIMENSION_POLICIES: Mapping[int, DimensionPolicy] = {
    image_pb2.DIMENSION_POLICY_UNSPECIFIED: DimensionPolicy.ROUND_DOWN,
    image_pb2.DIMENSION_POLICY_ROUND_DOWN: DimensionPolicy.ROUND_DOWN,
    image_pb2.DIMENSION_POLICY_REJECT: DimensionPolicy.REJECT,
}
_MASK_POLARITIES: Mapping[int, MaskPolarity] = {
    image_pb2.MASK_POLARITY_UNSPECIFIED: MaskPolarity.WHITE_REPAINTS,
    image_pb2.MASK_POLARITY_WHITE_REPAINTS: MaskPolarity.WHITE_REPAINTS,
    image_pb2.MASK_POLARITY_BLACK_REPAINTS: MaskPolarity.BLACK_REPAINTS,
    image_pb2.MASK_POLARITY_TRANSPARENT_REPAINTS: MaskPolarity.TRANSPARENT_REPAINTS,
}


#: None: the model's own.
_LEVELS: Mapping[int, Reproducibility | None] = {
    image_pb2.REPRODUCIBILITY_UNSPECIFIED: None,
    image_pb2.REPRODUCIBILITY_TOLERANCE: Reproducibility.TOLERANCE,
    image_pb2.REPRODUCIBILITY_EXACT: Reproducibility.EXACT,
}


def parse_generate(
    request: image_service_pb2.GenerateRequest,
) -> tuple[ModelRef, ImageRequest]:
    """The model asked for and what is asked of it; raises InvalidParameter naming the field."""
    strength = request.strength if request.HasField("strength") else None
    if not request.HasField("image"):
        if strength is not None:
            raise InvalidParameter("strength", "it needs an image to begin with")
        return _parse(request, Task.TEXT_TO_IMAGE)
    source = SourceInput(image=request.image.content, strength=strength)
    return _parse(request, Task.IMAGE_TO_IMAGE, source=source)


def parse_fill(request: image_service_pb2.FillRequest) -> tuple[ModelRef, ImageRequest]:
    """As `parse_generate`; image and mask stay encoded."""
    fill = FillInput(
        image=request.image.content,
        mask=request.mask.content or None,
        mask_polarity=_known("mask_polarity", _MASK_POLARITIES, request.mask_polarity),
        strength=request.strength if request.HasField("strength") else None,
        preserve_unmasked=(
            request.preserve_unmasked if request.HasField("preserve_unmasked") else None
        ),
    )
    return _parse(request, Task.FILL, fill=fill)


def _parse(
    request: _Request,
    task: Task,
    *,
    fill: FillInput | None = None,
    source: SourceInput | None = None,
) -> tuple[ModelRef, ImageRequest]:
    parsed = ImageRequest(
        task=task,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt or None,
        width_px=request.width_px if request.HasField("width_px") else None,
        height_px=request.height_px if request.HasField("height_px") else None,
        step_count=request.step_count if request.HasField("step_count") else None,
        guidance_scale=request.guidance_scale if request.HasField("guidance_scale") else None,
        seed=request.seed if request.HasField("seed") else None,
        image_count=request.image_count or 1,
        scheduler=request.scheduler or None,
        output=_output(request.output),
        preview=_preview(request.preview),
        priority=_known("priority", _PRIORITIES, request.priority),
        unsupported_parameter_policy=_known(
            "unsupported_parameter_policy",
            _UNSUPPORTED_POLICIES,
            request.unsupported_parameter_policy,
        ),
        dimension_policy=_known("dimension_policy", _DIMENSION_POLICIES, request.dimension_policy),
        validate_only=request.validate_only,
        fill=fill,
        source=source,
        reproducibility=_known("reproducibility", _LEVELS, request.reproducibility),
        feature_cache=(
            _feature_cache(request.feature_cache) if request.HasField("feature_cache") else None
        ),
    )
    check_name("model", request.model)
    check_name("version", request.version)
    check_limits(parsed)
    return ModelRef(request.model, request.version), parsed


def _known(field: str, values: Mapping[int, _Value], number: int) -> _Value:
    if number not in values:
        raise InvalidParameter(field, f"{number} is not a known value")
    return values[number]


def _output(options: image_pb2.OutputOptions) -> OutputRequest:
    return OutputRequest(
        format=_known("output.format", _FORMATS, options.format),
        quality=options.quality if options.HasField("quality") else None,
        lossless=options.lossless,
        embed_metadata=options.embed_metadata,
    )


def _feature_cache(options: image_pb2.FeatureCache) -> FeatureCache:
    if options.HasField("threshold"):
        return FeatureCache(threshold=options.threshold)
    return FeatureCache()


def _preview(options: image_pb2.PreviewOptions) -> PreviewSpec | None:
    if options.interval_step_count == 0:
        return None
    if not options.HasField("max_edge_px"):
        return PreviewSpec(interval_step_count=options.interval_step_count)
    return PreviewSpec(
        interval_step_count=options.interval_step_count, max_edge_px=options.max_edge_px
    )
