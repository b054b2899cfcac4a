"""Silhouettes of the drawn vocabulary, as polygons in a unit square."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Point = tuple[float, float]
Polygon = list[Point]

#: Polygons are drawn this much larger and then averaged down, which gives anti-aliased edges.
SUPERSAMPLING = 3


def _circle() -> tuple[list[Polygon], list[Polygon]]:
    turn = [2 * math.pi * k / 72 for k in range(72)]
    return [[(math.cos(a), math.sin(a)) for a in turn]], []


def _square() -> tuple[list[Polygon], list[Polygon]]:
    return [[(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)]], []


def _triangle() -> tuple[list[Polygon], list[Polygon]]:
    return [[(0.0, -0.95), (1.0, 0.85), (-1.0, 0.85)]], []


def _star() -> tuple[list[Polygon], list[Polygon]]:
    points = []
    for k in range(10):
        radius = 1.08 if k % 2 == 0 else 0.47
        angle = -math.pi / 2 + math.pi * k / 5
        points.append((radius * math.cos(angle), radius * math.sin(angle) + 0.06))
    return [points], []


def _heart() -> tuple[list[Polygon], list[Polygon]]:
    points = []
    for k in range(72):
        t = 2 * math.pi * k / 72
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((x / 16.5, -y / 15.5 - 0.12))
    return [points], []


def _house() -> tuple[list[Polygon], list[Polygon]]:
    walls = [(-0.72, -0.12), (0.72, -0.12), (0.72, 0.92), (-0.72, 0.92)]
    roof = [(0.0, -1.0), (1.02, -0.06), (-1.02, -0.06)]
    door = [(-0.2, 0.36), (0.2, 0.36), (0.2, 0.92), (-0.2, 0.92)]
    return [walls, roof], [door]


_OUTLINES: dict[str, Callable[[], tuple[list[Polygon], list[Polygon]]]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "house": _house,
}

SHAPES: tuple[str, ...] = tuple(_OUTLINES)


def coverage(
    shape: str, *, size_px: int, center: Point, radius_px: float
) -> npt.NDArray[np.float32]:
    """How much of each pixel the shape covers: float32 [size_px, size_px] in 0..1."""
    scale = SUPERSAMPLING
    canvas = Image.new("L", (size_px * scale, size_px * scale), 0)
    draw = ImageDraw.Draw(canvas)
    solid, holes = _OUTLINES[shape]()
    for polygons, value in ((solid, 255), (holes, 0)):
        for polygon in polygons:
            draw.polygon(
                [
                    ((center[0] + x * radius_px) * scale, (center[1] + y * radius_px) * scale)
                    for x, y in polygon
                ],
                fill=value,
            )
    small = canvas.reduce(scale)
    return np.asarray(small, dtype=np.float32) / 255.0
