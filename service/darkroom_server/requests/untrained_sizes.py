"""Sizes that a model was not trained at: it draws them, and not as well."""

from __future__ import annotations

from darkroom_server.domain.jobs import ImageSpec
from darkroom_server.domain.models import ModelInfo
from darkroom_server.domain.notices import Notice, NoticeReason


def untrained_sizes(spec: ImageSpec, model: ModelInfo) -> tuple[Notice, ...]:
    """A notice for a width, and one for a height, far from those that the model was trained at."""
    sizes = {"width_px": spec.width_px, "height_px": spec.height_px}
    return tuple(
        _notice(field, size_px, model)
        for field, size_px in sizes.items()
        if not model.trained_sizes.has(size_px)
    )


def _notice(field: str, size_px: int, model: ModelInfo) -> Notice:
    trained = model.trained_sizes
    bounds = [
        *([f"from {trained.min_size_px}"] if trained.min_size_px else []),
        *([f"up to {trained.max_size_px}"] if trained.max_size_px else []),
    ]
    text = (
        f"models/{model.name} was trained at sizes {' '.join(bounds)} px; "
        f"at {size_px} px it may not draw what was asked for"
    )
    return Notice(NoticeReason.SIZE_UNTRAINED, text, field)
