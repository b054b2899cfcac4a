"""Raw pixels of a request as the pictures that diffusers' image processors take, and back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from darkroom_server.backends.base import ImageArray
from darkroom_server.domain.jobs import FillSpec, Pixels

#: From this value of the mask on, 0 to 255, a pixel is repainted, as in diffusers' mask processor.
REPAINT_FROM = 128
#: Parts of the shorter edge in the soft edge of what is repainted, and the most of it.
FEATHER_DIVISOR, MAX_FEATHER_PX = 128, 8


def picture(pixels: Pixels) -> Image.Image:
    """RGB for three channels, greyscale for one."""
    mode = "L" if pixels.channel_count == 1 else "RGB"
    return Image.frombytes(mode, (pixels.width_px, pixels.height_px), pixels.data)


def keep_unmasked(made: ImageArray, fill: FillSpec) -> ImageArray:
    """The made image, uint8 [h, w, 3], where the mask repaints; the original's pixels elsewhere.

    Within the mask, along its edge, the original fades into the made image: a cut would show, since
    what surrounds it has not been through the autoencoder. What is thinner than twice the feather
    fades over half its own width, so that its middle is new all the same.
    """
    original = np.asarray(picture(fill.image), np.uint16)
    repaint = np.asarray(picture(fill.mask)) >= REPAINT_FROM
    feather_px = min(max(min(repaint.shape) // FEATHER_DIVISOR, 1), MAX_FEATHER_PX)
    depth, deepest = _depths(repaint, feather_px)
    mixed = made * depth + original * (deepest - depth) + deepest // 2
    return (mixed // deepest).astype(np.uint8)


def _depths(
    repaint: npt.NDArray[np.bool_], feather_px: int
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """How many px deep within the mask each pixel lies, and the deepest that is near it.

    Both [height, width, 1], up to one more than the feather; the second is at least 1.
    """
    depth = np.zeros(repaint.shape, np.uint8)
    inner = repaint.astype(np.uint8)
    for _ in range(feather_px + 1):
        depth += inner
        inner = _of_neighbours(inner, np.minimum)
    deepest = depth
    for _ in range(feather_px):
        deepest = _of_neighbours(deepest, np.maximum)
    wide = (depth[:, :, None].astype(np.uint16), deepest[:, :, None].astype(np.uint16))
    return wide[0], np.maximum(wide[1], 1)


def _of_neighbours(
    values: npt.NDArray[np.uint8], of_two: Callable[..., npt.NDArray[np.uint8]]
) -> npt.NDArray[np.uint8]:
    """The least or greatest among each pixel and its eight neighbours; beyond the edge is as it."""
    for axis in (0, 1):
        ends = [(1, 1) if one == axis else (0, 0) for one in (0, 1)]
        padded = np.moveaxis(np.pad(values, ends, mode="edge"), axis, 0)
        least = of_two(of_two(padded[:-2], padded[1:-1]), padded[2:])
        values = np.moveaxis(least, 0, axis)
    return values
