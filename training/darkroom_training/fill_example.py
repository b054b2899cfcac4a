"""Pictures with a part to repaint, as the Fill model sees them, and how they are made.

Most masks hold the place of an object that is to be drawn over the picture; the prompt names it. The
others are strokes, boxes and whole pictures anywhere, and the prompt says the picture.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderTiny
from PIL import Image, ImageDraw

from darkroom_training.evaluation import Mask, Pixels
from darkroom_training.fill_measurement import OPPOSITE, mask_at
from darkroom_training.scene_example import as_tensor
from darkroom_training.scenes import (
    COLORS,
    PLACES,
    RADIUS,
    SIZE_PX,
    ObjectScene,
    caption,
    draw,
    random_scene,
)
from darkroom_training.shapes import SHAPES

#: Share of the examples in which another object takes the place of what was there.
_REPLACED_SHARE = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class FillExample:
    """What is given and what is wanted.

    `wanted` are the latents of the finished picture and `kept` those of the picture with the masked
    part gray, float32 [4, 16, 16]; `mask` is bool [256, 256], true where to repaint.
    """

    text: str
    wanted: torch.Tensor
    kept: torch.Tensor
    mask: torch.Tensor


def fill_maker(
    autoencoder: AutoencoderTiny, rng: random.Random
) -> Callable[[int], list[FillExample]]:
    """Makes examples of random scenes and masks."""

    @torch.no_grad()
    def make(count: int) -> list[FillExample]:
        drawn = [sample(rng) for _ in range(count)]
        finished = torch.stack([as_tensor(picture) for _, picture, _ in drawn])
        masks = torch.stack([torch.from_numpy(mask) for _, _, mask in drawn])
        pixels = torch.cat([finished, finished * ~masks[:, None]])
        with torch.autocast("cpu", torch.bfloat16):
            latents = autoencoder.encode(pixels.to(memory_format=torch.channels_last)).latents
        wanted, kept = latents.float().chunk(2)
        return [
            FillExample(text=drawn[k][0], wanted=wanted[k], kept=kept[k], mask=masks[k])
            for k in range(count)
        ]

    return make


def sample(rng: random.Random) -> tuple[str, Pixels, Mask]:
    """A prompt, the finished picture, and the mask of what is repainted."""
    return _replaced(rng) if rng.random() < _REPLACED_SHARE else _restored(rng)


def _restored(rng: random.Random) -> tuple[str, Pixels, Mask]:
    """A mask anywhere: the picture is to be as it was."""
    scene = random_scene(rng)
    kind = rng.random()
    mask = _everything() if kind < 0.2 else _box(rng) if kind < 0.6 else _strokes(rng)
    return caption(scene, rng), draw(scene, rng), mask


def _replaced(rng: random.Random) -> tuple[str, Pixels, Mask]:
    """An object in the mask, another scene around it."""
    wanted = _object(rng)
    mask = _mask_over(wanted.place, rng)
    # The same seed gives both drawings one shade of background.
    seed = rng.randrange(2**32)
    picture = draw(_surroundings(wanted, rng), random.Random(seed)).copy()
    picture[mask] = draw(wanted, random.Random(seed))[mask]
    return caption(wanted, rng), picture, mask


def _object(rng: random.Random) -> ObjectScene:
    while True:
        scene = random_scene(rng)
        if isinstance(scene, ObjectScene):
            return scene


def _surroundings(wanted: ObjectScene, rng: random.Random) -> ObjectScene:
    """Another object on the same background; what the mask covers of it is gone."""
    taken = (wanted.background, wanted.gradient_to, wanted.color)
    color = rng.choice([name for name in COLORS if name not in taken])
    place = OPPOSITE[wanted.place] if rng.random() < 0.7 else rng.choice(tuple(PLACES))
    return ObjectScene(rng.choice(SHAPES), color, wanted.background, place, wanted.gradient_to)


def _mask_over(place: str, rng: random.Random) -> Mask:
    """A half, a box or a broad dab that holds the place, or everything."""
    kind = rng.random()
    if kind < 0.6:
        return mask_at(place)
    if kind < 0.7:
        return _everything()
    x, y = (share * SIZE_PX for share in PLACES[place])
    reach = SIZE_PX * (RADIUS + 0.04)
    if kind < 0.85:
        left, top, right, bottom = (reach + rng.uniform(0, 30) for _ in range(4))
        return _filled([(x - left, y - top), (x + right, y + bottom)])
    return _brushed([(x + rng.uniform(-8, 8), y + rng.uniform(-8, 8))], reach * 1.15)


def _strokes(rng: random.Random) -> Mask:
    points = [(rng.uniform(0, SIZE_PX), rng.uniform(0, SIZE_PX)) for _ in range(rng.randint(2, 5))]
    return _brushed(points, rng.uniform(10, 40))


def _box(rng: random.Random) -> Mask:
    width, height = (rng.uniform(0.2, 0.7) * SIZE_PX for _ in range(2))
    x, y = rng.uniform(0, SIZE_PX - width), rng.uniform(0, SIZE_PX - height)
    return _filled([(x, y), (x + width, y + height)])


def _everything() -> Mask:
    return np.ones((SIZE_PX, SIZE_PX), dtype=np.bool_)


def _filled(corners: list[tuple[float, float]]) -> Mask:
    canvas = Image.new("1", (SIZE_PX, SIZE_PX))
    ImageDraw.Draw(canvas).rectangle(corners, fill=1)
    return np.array(canvas)


def _brushed(points: list[tuple[float, float]], radius_px: float) -> Mask:
    """A brush of this radius, drawn from point to point."""
    canvas = Image.new("1", (SIZE_PX, SIZE_PX))
    pen = ImageDraw.Draw(canvas)
    pen.line(points, fill=1, width=round(2 * radius_px))
    for x, y in points:
        pen.ellipse((x - radius_px, y - radius_px, x + radius_px, y + radius_px), fill=1)
    return np.array(canvas)
