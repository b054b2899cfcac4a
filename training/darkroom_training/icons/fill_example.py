"""Pictures with a part to repaint: another thing is to stand where the mask is, the rest stays.

The prompt names the new thing. Some masks are strokes and boxes anywhere, and the prompt says the picture
as it was.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderTiny
from PIL import Image, ImageDraw

from darkroom_training.icons import device
from darkroom_training.icons.scenes import (
    CORNERS,
    LARGE_CORNER,
    SIZE_PX,
    Pixels,
    Scene,
    draw,
    random_scene,
)
from darkroom_training.icons.stamps import SIDES_PX, StampBook
from darkroom_training.icons.text import prompt
from darkroom_training.scene_example import as_tensor

Mask = npt.NDArray[np.bool_]

_RESTORED_SHARE = 0.3
OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FillScene:
    """A picture, uint8 [192, 192, 3], the part to repaint, bool [192, 192], and what should then be seen."""

    original: Pixels
    wanted_picture: Pixels
    mask: Mask
    wanted: Scene
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FillLatents:
    """The same as a denoiser takes it: latents of both pictures, float32 [4, 24, 24], and the mask."""

    text: str
    wanted: torch.Tensor
    kept: torch.Tensor
    mask: torch.Tensor


def random_fill(rng: random.Random, book: StampBook, *, replaced_only: bool = False) -> FillScene:
    """An example; with `replaced_only` always one in which a new thing takes a place."""
    if not replaced_only and rng.random() < _RESTORED_SHARE:
        return _restored(rng, book)
    return _replaced(rng, book)


def _replaced(rng: random.Random, book: StampBook) -> FillScene:
    while True:
        wanted = random_scene(rng)
        if len(wanted.things) == 1 and wanted.count == 1:
            break
    other = random_scene(rng)
    while len(other.things) != 1:
        other = random_scene(rng)
    before = replace(wanted, things=other.things, facing=None)
    if wanted.size == "small" and wanted.place in OPPOSITE:
        before = replace(before, place=OPPOSITE[wanted.place])
    # The same seed gives both drawings one shade of background.
    seed = rng.randrange(2**32)
    original = draw(before, random.Random(seed), book)
    mask = mask_over(wanted, rng)
    picture = original.copy()
    picture[mask] = draw(wanted, random.Random(seed), book)[mask]
    return FillScene(
        original=original,
        wanted_picture=picture,
        mask=mask,
        wanted=wanted,
        text=prompt(wanted, rng),
    )


def _restored(rng: random.Random, book: StampBook) -> FillScene:
    scene = random_scene(rng)
    picture = draw(scene, rng, book)
    mask = _box(rng) if rng.random() < 0.5 else _strokes(rng)
    return FillScene(
        original=picture, wanted_picture=picture, mask=mask, wanted=scene, text=prompt(scene, rng)
    )


def mask_over(scene: Scene, rng: random.Random) -> Mask:
    """The half of the picture where its one thing stands, or a box around it."""
    x, y = LARGE_CORNER if scene.size == "large" else CORNERS[scene.place]
    side_px, half = SIDES_PX[scene.size], SIZE_PX // 2
    mask = np.zeros((SIZE_PX, SIZE_PX), dtype=np.bool_)
    halves = {
        "left": (slice(None), slice(None, half)),
        "right": (slice(None), slice(half, None)),
        "top": (slice(None, half), slice(None)),
        "bottom": (slice(half, None), slice(None)),
    }
    if scene.size == "small" and scene.place in halves and rng.random() < 0.6:
        mask[halves[scene.place]] = True
        return mask
    # Whole latents, and room for a thing that stands lower in a landscape.
    margin_px = 8 * rng.randint(1, 2)
    top, left = max(0, y - margin_px), max(0, x - margin_px)
    mask[top : y + side_px + margin_px + 8, left : x + side_px + margin_px] = True
    return mask


def _box(rng: random.Random) -> Mask:
    width, height = (rng.uniform(0.2, 0.7) * SIZE_PX for _ in range(2))
    x, y = rng.uniform(0, SIZE_PX - width), rng.uniform(0, SIZE_PX - height)
    canvas = Image.new("1", (SIZE_PX, SIZE_PX))
    ImageDraw.Draw(canvas).rectangle([(x, y), (x + width, y + height)], fill=1)
    return np.array(canvas)


def _strokes(rng: random.Random) -> Mask:
    points = [(rng.uniform(0, SIZE_PX), rng.uniform(0, SIZE_PX)) for _ in range(rng.randint(2, 5))]
    canvas = Image.new("1", (SIZE_PX, SIZE_PX))
    ImageDraw.Draw(canvas).line(points, fill=1, width=rng.randint(16, 60), joint="curve")
    return np.array(canvas)


@torch.no_grad()
def latents_of(autoencoder: AutoencoderTiny, examples: list[FillScene]) -> list[FillLatents]:
    """The examples as a denoiser takes them; the masked part of what is kept is grey."""
    finished = torch.stack([as_tensor(example.wanted_picture) for example in examples])
    masks = torch.stack([torch.from_numpy(example.mask) for example in examples])
    pixels = device.here(torch.cat([finished, finished * ~masks[:, None]]))
    with device.mixed():
        latents = autoencoder.encode(pixels.to(memory_format=torch.channels_last)).latents
    wanted, kept = latents.float().chunk(2)
    return [
        FillLatents(text=example.text, wanted=wanted[k], kept=kept[k], mask=device.here(masks[k]))
        for k, example in enumerate(examples)
    ]
