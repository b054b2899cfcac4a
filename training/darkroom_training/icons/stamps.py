"""The things to draw as pictures with an alpha channel, in every size and colour they are asked for in.

A stamp is float32 [side, side, 4]: red, green and blue in 0..255, then the cover in 0..1. Icons are read from the
cache that `icon_rendering` fills; shapes are drawn here.
"""

from __future__ import annotations

import colorsys
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from darkroom_training.icons.concepts import CONCEPTS
from darkroom_training.scenes import COLORS as SCENE_COLORS
from darkroom_training.scenes import Rgb
from darkroom_training.shapes import coverage

Stamp = npt.NDArray[np.float32]

COLORS: dict[str, Rgb] = {**SCENE_COLORS, "pink": (250, 150, 190)}
#: Colours that icons are asked for in: those that have a hue.
ICON_COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
#: Edge of a stamp. Multiples of the autoencoder's factor, as all places are: the latents of a thing are
#: then the same wherever it stands, which leaves a denoiser less to learn.
SIDES_PX = {"large": 128, "small": 80}

#: Pixels whose hue is this near to an icon's main one take part in a change of its colour.
_HUE_REACH = 0.09
_LEAST_SATURATION = 0.30


@dataclass(frozen=True, slots=True)
class Thing:
    """A concept, in a colour where one is named."""

    concept: str
    color: str | None = None


class StampBook:
    """Stamps of all things, made when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamps: dict[tuple[Thing, str, bool], Stamp] = {}

    def stamp(self, thing: Thing, size: str, *, mirrored: bool = False) -> Stamp:
        """The thing in a size of `SIDES_PX`."""
        key = (thing, size, mirrored)
        if key not in self._stamps:
            made = self._make(thing, SIDES_PX[size])
            self._stamps[key] = np.ascontiguousarray(made[:, ::-1]) if mirrored else made
        return self._stamps[key]

    def _make(self, thing: Thing, side_px: int) -> Stamp:
        icon = CONCEPTS[thing.concept].icon
        if icon is None:
            return _shape(thing, side_px)
        full = _read(self._folder / "png" / f"{icon.replace('/', '-')}.png")
        if thing.color is not None:
            full = recolored(full, COLORS[thing.color])
        return _reduced(full, side_px)


def _shape(thing: Thing, side_px: int) -> Stamp:
    assert thing.color is not None, "shapes have a colour"
    cover = coverage(
        thing.concept,
        size_px=side_px,
        center=(side_px / 2, side_px / 2),
        radius_px=side_px * 0.42,
    )
    stamp = np.empty((side_px, side_px, 4), dtype=np.float32)
    stamp[:, :, :3] = COLORS[thing.color]
    stamp[:, :, 3] = cover
    return stamp


@functools.cache
def _read(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGBA"))


def _reduced(full: npt.NDArray[np.uint8], side_px: int) -> Stamp:
    """Scaled with its colours weighted by their cover, so that no edge takes a colour of nothing."""
    wide = full.astype(np.float32)
    wide[:, :, :3] *= wide[:, :, 3:] / 255
    channels = [
        np.asarray(Image.fromarray(wide[:, :, k]).resize((side_px, side_px), Image.Resampling.BOX))
        for k in range(4)
    ]
    small = np.stack(channels, axis=2)
    small[:, :, :3] /= np.maximum(small[:, :, 3:] / 255, 1e-3)
    small[:, :, 3] /= 255
    return np.clip(small, 0, (255, 255, 255, 1)).astype(np.float32)


def recolored(full: npt.NDArray[np.uint8], wanted: Rgb) -> npt.NDArray[np.uint8]:
    """The picture with its main hue changed to the wanted colour's; lights and shadows stay."""
    hsv = np.asarray(Image.fromarray(full[:, :, :3]).convert("HSV")).astype(np.float32) / 255
    hue, saturation, value = hsv[:, :, 0], hsv[:, :, 1], hsv[:, :, 2]
    vivid = (saturation > _LEAST_SATURATION) & (full[:, :, 3] > 128)
    counts, edges = np.histogram(hue[vivid], bins=48, range=(0, 1))
    main = (edges[counts.argmax()] + edges[counts.argmax() + 1]) / 2
    distance = np.abs((hue - main + 0.5) % 1.0 - 0.5)
    part = (distance < _HUE_REACH) & (saturation > _LEAST_SATURATION)
    base_saturation, base_value = np.median(saturation[part]), np.median(value[part])
    to_hue, to_saturation, to_value = colorsys.rgb_to_hsv(*(channel / 255 for channel in wanted))
    changed = hsv.copy()
    changed[part, 0] = to_hue
    changed[part, 1] = np.clip(saturation[part] / base_saturation * to_saturation, 0, 1)
    changed[part, 2] = np.clip(value[part] / base_value * to_value, 0, 1)
    result = full.copy()
    result[:, :, :3] = np.asarray(
        Image.fromarray((changed * 255).round().astype(np.uint8), "HSV").convert("RGB")
    )
    return result
