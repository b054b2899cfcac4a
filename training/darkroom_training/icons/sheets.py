"""Pictures of what a training knows so far."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from darkroom_training.icons import autoencoder
from darkroom_training.icons.scenes import SIZE_PX, Pixels
from darkroom_training.measurement import DrawSettings

_COLUMNS = 12

#: Drawn now and then while a model is trained.
PROMPTS = (
    "a cat",
    "an astronaut",
    "a sunset over the sea",
    "two red circles",
    "a red car",
    "two pizzas",
    "a dog on the left on a yellow background",
    "three balloons",
    "a small house in the snow at night",
    "a blue heart on a pink background",
    "a robot and a rocket",
    "a butterfly at the top on a white to purple gradient",
)


class Sheet:
    """A sheet of the prompts, drawn seldom: it takes as long as hundreds of steps."""

    def __init__(self, path: Path, *, interval_s: float = 900.0) -> None:
        self._path, self._interval_s = path, interval_s
        self._drawn_s = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to draw again."""
        return time.monotonic() - self._drawn_s >= self._interval_s

    def draw(self, pipeline: Any, settings: DrawSettings) -> None:
        """Draws the prompts with a stock pipeline and writes the sheet."""
        write_pictures(drawn(pipeline, settings), self._path)
        self._drawn_s = time.monotonic()


def drawn(pipeline: Any, settings: DrawSettings) -> Pixels:
    """The prompts drawn with a stock pipeline, uint8 [N, height, width, 3], each by its own seed."""
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        list(PROMPTS),
        height=SIZE_PX,
        width=SIZE_PX,
        **settings.arguments(),
        generator=[torch.Generator("cpu").manual_seed(k) for k in range(len(PROMPTS))],
        output_type="np",
    ).images
    pictures: Pixels = (images * 255).round().astype(np.uint8)
    return pictures


@torch.no_grad()
def write_latents(folder: Path, latents: torch.Tensor, path: Path) -> None:
    """Decodes latents with the autoencoder in the folder and writes them as one PNG, twelve in a row."""
    decoded = autoencoder.load(folder).decode(latents).sample
    write_pictures(
        decoded.add(1).mul(127.5).clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy(), path
    )


def write_pictures(pictures: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], path: Path) -> None:
    """Writes pictures, uint8 [N, height, width, 3], as one PNG, twelve in a row."""
    count, height, width, _ = pictures.shape
    sheet = np.full((-(-count // _COLUMNS) * height, _COLUMNS * width, 3), 255, dtype=np.uint8)
    for k, picture in enumerate(pictures):
        row, column = divmod(k, _COLUMNS)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = picture
    Image.fromarray(sheet).save(path)
