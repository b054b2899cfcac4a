"""What a caller asked for, before a model's defaults and limits are applied.

Both edges parse their own format into these values; unset stays None.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from darkroom_server.domain.jobs import (
    FeatureCache,
    ImageFormat,
    PreviewSpec,
    Priority,
    Reproducibility,
    Task,
)


class UnsupportedParameterPolicy(enum.Enum):
    """What to do with a parameter that the chosen model cannot honour."""

    REJECT = "reject"
    IGNORE = "ignore"


class DimensionPolicy(enum.Enum):
    """What to do with a size that the model's grid does not divide."""

    ROUND_DOWN = "round-down"
    REJECT = "reject"


class MaskPolarity(enum.Enum):
    """Which mask value asks for new pixels."""

    WHITE_REPAINTS = "white"
    BLACK_REPAINTS = "black"
    #: Fully transparent pixels are repainted; colour is ignored.
    TRANSPARENT_REPAINTS = "transparent"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """A request for images.

    `fill` is set exactly when `task` is FILL, `source` exactly when it is IMAGE_TO_IMAGE.
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
    #: None: the model's own.
    reproducibility: Reproducibility | None = None
    feature_cache: FeatureCache | None = None
