"""What a caller asked for, before a model's defaults and limits are applied.

Both edges read their own format into a `Said`, of which `image_request` makes these values; unset
stays None.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from darkroom_server.domain.jobs import (
    DimensionPolicy,
    FeatureCache,
    ImageFormat,
    MaskPolarity,
    PreviewSpec,
    Priority,
    Reproducibility,
    Task,
    UnsupportedParameterPolicy,
)
from darkroom_server.parameters.parameter import Parameter
from darkroom_server.parameters.table import PARAMETERS

#: What a caller set: values by their field's name, by the message that the field is in ("" for the
#: request itself). A message that was sent is there even if it was empty.
Said = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRequest:
    """How the caller wants images encoded. `quality` is for lossy formats only."""

    format: ImageFormat = ImageFormat.PNG
    quality: int | None = None
    lossless: bool = False
    embed_metadata: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FillInput:
    """Encoded files as they arrived. `mask` None: the image's own transparency is the mask."""

    image: bytes
    mask: bytes | None = None
    mask_polarity: MaskPolarity = MaskPolarity.WHITE_REPAINTS
    strength: float | None = None
    #: None: as the model's defaults say.
    preserve_unmasked: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInput:
    """The encoded image that image to image begins with."""

    image: bytes
    strength: float | None = None


@dataclass(frozen=True, slots=True)
class AdapterRequest:
    """An adapter as it was asked for; `weight` None: its own default."""

    name: str
    version: str = ""
    weight: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """A request for images.

    `fill` is set exactly when `task` is FILL and `source` exactly when it is IMAGE_TO_IMAGE. There
    are `reference_images`, encoded, when it is EDIT, or beside the image of either.
    """

    task: Task
    prompt: str
    negative_prompt: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    step_count: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    image_count: int = 1
    scheduler: str | None = None
    output: OutputRequest = OutputRequest()
    preview: PreviewSpec | None = None
    priority: Priority = Priority.NORMAL
    unsupported_parameter_policy: UnsupportedParameterPolicy = UnsupportedParameterPolicy.REJECT
    dimension_policy: DimensionPolicy = DimensionPolicy.ROUND_DOWN
    validate_only: bool = False
    fill: FillInput | None = None
    source: SourceInput | None = None
    reference_images: tuple[bytes, ...] = ()
    #: None: the model's own.
    reproducibility: Reproducibility | None = None
    feature_cache: FeatureCache | None = None
    adapters: tuple[AdapterRequest, ...] = ()

    @property
    def image_input(self) -> FillInput | SourceInput | None:
        """The image that came along, and what is asked of it."""
        return self.fill or self.source


def image_request(task: Task, said: Said) -> ImageRequest:
    """The request that was said; nothing of it is checked yet."""
    values: dict[str, Any] = {"prompt": "", **said.get("", {})}
    image: dict[str, Any] = {"image": said.get("image", {}).get("content", b"")}
    for name in [name for name in values if PARAMETERS[name].needs_image]:
        image[name] = values.pop(name)
    mask = said.get("mask", {}).get("content") or None
    preview = said.get("preview", {})
    return ImageRequest(
        task=task,
        **values,
        output=OutputRequest(**said.get("output", {})),
        preview=PreviewSpec(**preview) if "interval_step_count" in preview else None,
        feature_cache=FeatureCache(**said["feature_cache"]) if "feature_cache" in said else None,
        fill=FillInput(**image, mask=mask) if task is Task.FILL else None,
        source=SourceInput(**image) if task is Task.IMAGE_TO_IMAGE else None,
    )


_UNSET: Mapping[str, object] = {
    field.name: field.default
    for kind in (ImageRequest, FillInput, SourceInput)
    for field in dataclasses.fields(kind)
}


def value_of(request: ImageRequest, parameter: Parameter) -> Any:
    """What the request has of a parameter; None where it is unset or there is no place for it."""
    if parameter.needs_image:
        return getattr(request.image_input, parameter.name, None)
    value = getattr(request, parameter.name)
    return getattr(value, parameter.leaf, None) if parameter.group else value


def is_set(request: ImageRequest, parameter: Parameter) -> bool:
    """Whether the caller set the parameter, or another one of its message."""
    holder = request.image_input if parameter.needs_image else request
    unset = _UNSET[parameter.name]
    return bool(getattr(holder, parameter.name, unset) != unset)


def without(request: ImageRequest, parameter: Parameter) -> ImageRequest:
    """The request as if the parameter, and all of its message, had not been set."""
    unset: dict[str, Any] = {parameter.name: _UNSET[parameter.name]}
    if not parameter.needs_image:
        return replace(request, **unset)
    if request.fill is not None:
        return replace(request, fill=replace(request.fill, **unset))
    if request.source is not None:
        return replace(request, source=replace(request.source, **unset))
    return request
