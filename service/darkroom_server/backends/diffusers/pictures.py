"""Raw pixels of a request as the pictures that diffusers' image processors take, and back."""

from __future__ import annotations

import numpy as np
from PIL import Image

from darkroom_server.backends.base import ImageArray
from darkroom_server.domain.jobs import FillSpec, Pixels

#: From this value of the mask on, 0 to 255, a pixel is repainted, as in diffusers' mask processor.
REPAINT_FROM = 128


def picture(pixels: Pixels) -> Image.Image:
    """RGB for three channels, greyscale for one."""
    mode = "L" if pixels.channel_count == 1 else "RGB"
    return Image.frombytes(mode, (pixels.width_px, pixels.height_px), pixels.data)


def keep_unmasked(made: ImageArray, fill: FillSpec) -> ImageArray:
    """The made image where the mask asks for new pixels, the original's pixels elsewhere."""
    original = np.asarray(picture(fill.image))
    repaint = np.asarray(picture(fill.mask))[:, :, None] >= REPAINT_FROM
    return np.where(repaint, made, original)
