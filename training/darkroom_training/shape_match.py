"""Which shape of the vocabulary a silhouette is, by overlap with templates of all of them.

Silhouettes are compared after being brought to one position and area, so that only their outline
counts; a few sizes, offsets and degrees of softness of every template are tried.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from darkroom_training.shapes import SHAPES, coverage

#: Silhouettes are compared on a grid of this many cells along each edge.
GRID = 48
#: Edge of the compared window, in square roots of the silhouette's area.
WINDOW = 2.4
#: Overlap that a silhouette must reach with a shape's template to be that shape. A pentagon reaches
#: 0.897 with the circle; a star drawn softly loses its points.
LEAST_OVERLAP = {shape: 0.84 if shape == "star" else 0.90 for shape in SHAPES}

_TEMPLATE_PX = 192
_TEMPLATE_RADIUS_PX = 58.0
_SOFTNESS_PX = (0.0, 7.0)
_SCALES = (0.94, 1.0, 1.06)
_OFFSETS = (-1, 0, 1)


@dataclass(frozen=True, slots=True)
class ShapeMatch:
    """The nearest shape and its share of the union with the silhouette, 0..1.

    `shape` is None when that is less than `LEAST_OVERLAP`.
    """

    shape: str | None
    nearest: str
    overlap: float


def match_shape(mask: npt.NDArray[np.bool_]) -> ShapeMatch:
    """Compares a silhouette, bool [height, width] with at least one pixel, with every shape."""
    seen = _normalised(mask.astype(np.float32), scale=1.0).ravel()
    names, templates = _templates()
    floors = np.array([LEAST_OVERLAP[name] for name in names])
    overlaps = np.minimum(templates, seen).sum(axis=1) / np.maximum(templates, seen).sum(axis=1)
    best = int((overlaps - floors).argmax())
    overlap = float(overlaps[best])
    shape = names[best] if overlap >= floors[best] else None
    return ShapeMatch(shape, names[best], overlap)


def _normalised(cover: npt.NDArray[np.float32], *, scale: float) -> npt.NDArray[np.float32]:
    """The cover sampled in a window around its centroid: float32 [GRID, GRID] in 0..1."""
    center_y, center_x = ndimage.center_of_mass(cover)
    side_px = WINDOW * scale * float(cover.sum()) ** 0.5
    steps = ((np.arange(GRID) + 0.5) / GRID - 0.5) * side_px
    y, x = np.meshgrid(steps + center_y, steps + center_x, indexing="ij")
    # A cell shows the mean of what lies in it, not one point.
    smooth = ndimage.gaussian_filter(cover, side_px / GRID / 2)
    sampled = ndimage.map_coordinates(smooth, (y, x), order=1, mode="constant")
    return np.asarray(sampled, dtype=np.float32)


@functools.cache
def _templates() -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
    """A name for each row, and float32 [rows, GRID * GRID]."""
    names, rows = [], []
    for shape in SHAPES:
        middle = _TEMPLATE_PX / 2
        sharp = coverage(
            shape, size_px=_TEMPLATE_PX, center=(middle, middle), radius_px=_TEMPLATE_RADIUS_PX
        )
        for softness_px in _SOFTNESS_PX:
            solid = ndimage.gaussian_filter(sharp, softness_px) > 0.5
            for scale in _SCALES:
                template = _normalised(solid.astype(np.float32), scale=scale)
                for dy in _OFFSETS:
                    for dx in _OFFSETS:
                        names.append(shape)
                        rows.append(np.roll(template, (dy, dx), axis=(0, 1)).ravel())
    return tuple(names), np.stack(rows)
