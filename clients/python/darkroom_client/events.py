"""What a streaming call reports, in the order of the stream.

Accepted, Queued*, (Progress | Preview | ImageReady)*, Completed. Progress and previews may be left
out for a slow reader.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from darkroom_client.results import Batch, GeneratedImage, Parameters, Timings, Warning


class Stage(enum.Enum):
    """A part of the work."""

    UNKNOWN = 0
    ENCODE = 2
    DENOISE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The request is valid and admitted. Always first."""

    generation_id: str
    request_id: str
    parameters: Parameters
    warnings: tuple[Warning, ...]


@dataclass(frozen=True, slots=True)
class Queued:
    """Waiting behind `ahead_count` requests, or for the model to load.

    `estimated_s`: until the images are made, by the server's estimate. `likely_within_s`: the
    time that nine of ten requests keep.
    """

    ahead_count: int
    model_loading: bool
    estimated_s: float | None = None
    likely_within_s: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """A stage began or a denoising step ended; the counts are 0 outside denoising.

    `batch` is how the step was shared; requests with the same `batch_id` of one worker shared it.
    """

    stage: Stage
    completed_step_count: int
    total_step_count: int
    batch: Batch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A small picture of an image so far, as a JPEG file in `content`."""

    image_index: int
    completed_step_count: int
    media_type: str
    content: bytes = field(repr=False)
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class ImageReady:
    """An image, whole and checked against its announced size and SHA-256."""

    image: GeneratedImage


@dataclass(frozen=True, slots=True)
class Completed:
    """All images were sent. Always last."""

    image_count: int
    timings: Timings
    batch: Batch | None = None
    #: What became clear only while it ran.
    warnings: tuple[Warning, ...] = ()


Event = Accepted | Queued | Progress | Preview | ImageReady | Completed
