"""The sample prompts that a training draws at every checkpoint, for people to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from darkroom_training.scenes import SIZE_PX

PROMPTS = (
    "a red circle on a blue background",
    "a green star on a white background",
    "an orange house on the left on a green background",
    "a white heart at the top on a red background",
    "a black triangle on a yellow background",
    "a purple square on the right on a white background",
    "a yellow star at the bottom on a black background",
    "a blue heart on an orange background",
    "a red house on a white to blue gradient background",
    "a green triangle",
    "a white circle on the right, purple background",
    "mountains at sunset",
    "the sea by day",
    "hills at night",
    "a plain green background",
    "a yellow house at the bottom on a blue background",
)

Images = npt.NDArray[np.float32]


def draw(pipeline: Any, **settings: Any) -> Images:
    """The sample prompts, drawn at the trained size: float32 [16, 256, 256, 3] in 0..1."""
    pipeline.set_progress_bar_config(disable=True)
    images: Images = pipeline(
        list(PROMPTS),
        height=SIZE_PX,
        width=SIZE_PX,
        generator=[torch.Generator("cpu").manual_seed(k) for k in range(len(PROMPTS))],
        output_type="np",
        **settings,
    ).images
    return images


def write(images: Images, path: Path) -> None:
    """Writes pictures as one PNG at half their size, eight in a row."""
    rows = [np.concatenate(list(images[k : k + 8]), axis=1) for k in range(0, len(images), 8)]
    sheet = (np.concatenate(rows, axis=0) * 255).round().astype(np.uint8)
    Image.fromarray(sheet).resize((sheet.shape[1] // 2, sheet.shape[0] // 2)).save(path)
