"""Output sizes: a model's grid and limits applied to what a caller or an image says."""

from __future__ import annotations

import math
from dataclasses import dataclass

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.jobs import DimensionPolicy
from darkroom_server.domain.models import Limits, ModelInfo
from darkroom_server.domain.notices import Notice, NoticeReason
from darkroom_server.requests.image_requests import ImageRequest


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels."""

    width_px: int
    height_px: int

    def __str__(self) -> str:
        return f"{self.width_px}x{self.height_px}"


def output_size(
    request: ImageRequest, model: ModelInfo, source: Size | None
) -> tuple[Size, tuple[Notice, ...]]:
    """The size to make: on the model's grid and within its limits.

    `source` is the size of the image to fill; what the caller leaves unset follows it, or the
    model's defaults when there is none. Raises InvalidParameter naming the field.
    """
    limits = model.limits
    notices: list[Notice] = []
    width_px, height_px = request.width_px, request.height_px
    if width_px is not None:
        width_px = _on_grid("width_px", width_px, limits, request.dimension_policy, notices)
    if height_px is not None:
        height_px = _on_grid("height_px", height_px, limits, request.dimension_policy, notices)
    if source is None:
        defaults = model.defaults
        size = Size(width_px or defaults.width_px, height_px or defaults.height_px)
    elif width_px is None or height_px is None:
        size = _following(source, width_px, height_px, limits)
        _note_following(source, size, request, limits, notices)
    else:
        size = Size(width_px, height_px)
    if size.width_px * size.height_px > limits.max_pixel_count:
        field = "width_px" if request.width_px is not None else "height_px"
        raise InvalidParameter(
            field, f"{size} has more than the {limits.max_pixel_count} pixels this model makes"
        )
    return size, tuple(notices)


def _on_grid(
    field: str, value: int, limits: Limits, policy: DimensionPolicy, notices: list[Notice]
) -> int:
    multiple_px = limits.size_multiple_px
    rounded = value // multiple_px * multiple_px
    if rounded != value and policy is DimensionPolicy.REJECT:
        raise InvalidParameter(field, f"{value} is not a multiple of {multiple_px}")
    if not limits.min_size_px <= rounded <= limits.max_size_px:
        of_grid = f" (in multiples of {multiple_px})" if rounded != value else ""
        raise InvalidParameter(
            field,
            f"{value} is not between the {limits.min_size_px} and {limits.max_size_px}"
            f" that this model makes{of_grid}",
        )
    if rounded != value:
        notices.append(
            Notice(
                NoticeReason.DIMENSION_ROUNDED,
                f"{value} rounded down to {rounded}, a multiple of {multiple_px}",
                field,
            )
        )
    return rounded


def _following(source: Size, width_px: int | None, height_px: int | None, limits: Limits) -> Size:
    """The source's size on the grid, scaled as little as the limits allow."""
    if width_px is not None:
        return Size(width_px, _beside(source.height_px, width_px, limits))
    if height_px is not None:
        return Size(_beside(source.width_px, height_px, limits), height_px)
    shortest, longest = sorted((source.width_px, source.height_px))
    enlarge = max(1.0, limits.min_size_px / shortest)
    pixel_scale = math.sqrt(limits.max_pixel_count / (shortest * longest))
    scale = min(enlarge, limits.max_size_px / longest, pixel_scale)
    short_edge = _within(shortest * scale, limits.max_size_px, limits)
    long_edge = _beside(longest * scale, short_edge, limits)
    if source.width_px < source.height_px:
        return Size(short_edge, long_edge)
    return Size(long_edge, short_edge)


def _beside(edge: float, other_px: int, limits: Limits) -> int:
    """`edge` on the grid and within the limits, given the other edge."""
    return _within(edge, min(limits.max_size_px, limits.max_pixel_count // other_px), limits)


def _within(edge: float, highest_px: int, limits: Limits) -> int:
    """`edge` rounded down to the grid, at most `highest_px`, but never below the least size."""
    multiple_px = limits.size_multiple_px
    # A scale is a rounded fraction: an edge that should fall on the grid may fall just below it.
    rounded = math.floor((min(edge, highest_px) + 1e-6) / multiple_px) * multiple_px
    return max(rounded, math.ceil(limits.min_size_px / multiple_px) * multiple_px)


def _note_following(
    source: Size, size: Size, request: ImageRequest, limits: Limits, notices: list[Notice]
) -> None:
    """Notes, or with REJECT refuses, edges that follow the image but are not as long as its own."""
    edges = (
        ("width_px", request.width_px, source.width_px, size.width_px),
        ("height_px", request.height_px, source.height_px, size.height_px),
    )
    for field, asked_px, source_px, edge_px in edges:
        if asked_px is not None or source_px == edge_px:
            continue
        if request.dimension_policy is DimensionPolicy.REJECT:
            raise InvalidParameter(
                field, f"this model does not make the image's own {source_px}; set {field}"
            )
        rounded = 0 < source_px - edge_px < limits.size_multiple_px
        reason = NoticeReason.DIMENSION_ROUNDED if rounded else NoticeReason.DIMENSION_CLAMPED
        notices.append(
            Notice(reason, f"the image's own {source_px} became {edge_px} for this model", field)
        )
