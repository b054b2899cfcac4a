"""Whether a picture shows a scene, told from its pixels alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from darkroom_training.scenes import COLORS, PLACES, ObjectScene
from darkroom_training.shape_match import match_shape

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

#: A colour further than this (RGB, Euclidean) from every colour of the vocabulary has no name.
#: The two nearest colours, orange and yellow, are 80 apart.
FURTHEST_SHADE = 80.0
#: What differs more than this from the background is something drawn on it.
LEAST_CONTRAST = 40.0
#: Width of the strips along the edges that show the background.
BORDER_SHARE = 0.025
#: Share of the picture that an object covers, from the smallest to the largest.
OBJECT_SHARE = (0.02, 0.25)
#: How far an object's centroid may lie from its place, as a share of the picture's edge.
PLACE_RADIUS = 0.13
#: Other things drawn may cover this much, as a share of the object's area.
STRAY_SHARE = 0.4

_NAMES = tuple(COLORS)
_PALETTE = np.array([COLORS[name] for name in _NAMES], dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """The object found: its silhouette, bool [height, width], and what is wrong with it."""

    mask: Mask
    fault: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What of a scene a picture shows; `fault` says what is wrong first, for people.

    `background` is None when the prompt left the background open. `shape` is true only of an
    object of the right colour at the right place.
    """

    background: bool | None
    object_at_place: bool
    shape: bool
    overlap: float
    fault: str | None

    @property
    def colors(self) -> bool:
        """Whether the background and the object at its place have the colours asked for."""
        return self.background is not False and self.object_at_place

    @property
    def right(self) -> bool:
        """Whether everything is as asked for."""
        return self.colors and self.shape


def judge(picture: Pixels, scene: ObjectScene, *, background_named: bool = True) -> Verdict:
    """Compares a picture, uint8 [height, width, 3], with the scene it should show."""
    pixels = picture.astype(np.float32)
    background_fault = _background_fault(pixels, scene) if background_named else None
    sighting = find_object(pixels, scene.color, scene.place)
    overlap, shape_fault = 0.0, sighting.fault
    if sighting.fault is None:
        match = match_shape(sighting.mask)
        overlap = match.overlap
        if match.shape != scene.shape:
            seen = match.shape or f"no shape (nearest: {match.nearest} {match.overlap:.2f})"
            shape_fault = f"{seen}, not {scene.shape}"
    return Verdict(
        background=background_fault is None if background_named else None,
        object_at_place=sighting.fault is None,
        shape=shape_fault is None,
        overlap=overlap,
        fault=background_fault or sighting.fault or shape_fault,
    )


def color_name(color: Floats) -> str | None:
    """The vocabulary's nearest colour to an RGB value, None when none is near."""
    distances = np.linalg.norm(_PALETTE - color, axis=1)
    nearest = int(distances.argmin())
    return _NAMES[nearest] if distances[nearest] <= FURTHEST_SHADE else None


def _strips(pixels: Floats) -> dict[str, Floats]:
    """The median colour, float32 [3], of the strip along each edge."""
    height, width = pixels.shape[:2]
    rows, columns = (max(1, round(edge * BORDER_SHARE)) for edge in (height, width))
    parts = {
        "top": pixels[:rows],
        "bottom": pixels[-rows:],
        "left": pixels[:, :columns],
        "right": pixels[:, -columns:],
    }
    return {
        side: np.median(part.reshape(-1, 3), axis=0).astype(np.float32)
        for side, part in parts.items()
    }


def _background_fault(pixels: Floats, scene: ObjectScene) -> str | None:
    strips = _strips(pixels)
    wanted = dict.fromkeys(strips, scene.background)
    if scene.gradient_to is not None:
        # The sides of a gradient pass through colours that have other names.
        wanted = {"top": scene.background, "bottom": scene.gradient_to}
    for side, name in wanted.items():
        seen = color_name(strips[side])
        if seen != name:
            return f"background {seen or 'of no known colour'} at the {side}, not {name}"
    return None


def _ground(pixels: Floats) -> Floats:
    """The background without the object, float32 [height, 1, 3].

    In each row what its two ends agree on, else a ramp from the top strip to the bottom one.
    """
    strips = _strips(pixels)
    ramp = np.linspace(0.0, 1.0, pixels.shape[0], dtype=np.float32)[:, None]
    ramp = strips["top"] * (1 - ramp) + strips["bottom"] * ramp
    columns = max(1, round(pixels.shape[1] * BORDER_SHARE))
    left, right = (np.median(end, axis=1) for end in (pixels[:, :columns], pixels[:, -columns:]))
    agreed = np.linalg.norm(left - right, axis=1, keepdims=True) < LEAST_CONTRAST
    rows = np.where(agreed, (left + right) / 2, ramp)
    return np.asarray(rows[:, None, :], dtype=np.float32)


def find_object(pixels: Floats, color: str, place: str) -> Sighting:
    """Finds the largest blob of a colour in a picture and says whether it is as wanted."""
    ground = _ground(pixels)
    drawn = _length(pixels - ground) > LEAST_CONTRAST
    distances = np.stack([_length(pixels - shade) for shade in _PALETTE], axis=2)
    named = (distances.argmin(axis=2) == _NAMES.index(color)) & (
        distances.min(axis=2) <= FURTHEST_SHADE
    )
    # Edges pass through other colours' names, in lines that opening removes.
    core = _largest(ndimage.binary_opening(named & drawn, iterations=2))
    if core.mean() < OBJECT_SHARE[0] / 2:
        return Sighting(mask=core, fault=f"nothing {color}")
    mask = _silhouette(pixels, ground, core)
    return Sighting(mask=mask, fault=_object_fault(mask, core, drawn, color, place))


def _silhouette(pixels: Floats, ground: Floats, core: Mask) -> Mask:
    """What is nearer to the core's colour than to the background, joined to the core, holes kept.

    Soft edges then lie where the object covers half of a pixel.
    """
    towards = np.median(pixels[core], axis=0) - ground
    length = np.square(towards).sum(axis=2)
    cover = ((pixels - ground) * towards).sum(axis=2) / np.maximum(length, 1.0)
    beside = _length(pixels - ground - cover[:, :, None] * towards)
    mask = (cover > 0.5) & (beside < FURTHEST_SHADE)
    labels, _ = ndimage.label(mask)
    return np.asarray((labels == np.bincount(labels[core & mask]).argmax()) & mask)


def _object_fault(mask: Mask, core: Mask, drawn: Mask, color: str, place: str) -> str | None:
    share = float(mask.mean())
    if not OBJECT_SHARE[0] <= share <= OBJECT_SHARE[1]:
        return f"{color} covers {share:.0%} of the picture"
    if core.sum() < 0.5 * mask.sum():
        return f"less than half of the object is {color}"
    around = ndimage.binary_dilation(mask, iterations=round(0.03 * len(mask)))
    stray = ndimage.binary_opening(drawn & ~around, iterations=2)
    if stray.sum() > STRAY_SHARE * mask.sum():
        return "other things are drawn beside the object"
    y, x = (
        center / edge for center, edge in zip(ndimage.center_of_mass(mask), mask.shape, strict=True)
    )
    away = {name: ((x - px) ** 2 + (y - py) ** 2) ** 0.5 for name, (px, py) in PLACES.items()}
    nearest = min(away, key=lambda name: away[name])
    if nearest != place or away[place] > PLACE_RADIUS:
        return f"{color} at the {nearest}, not {place}" if nearest != place else "out of place"
    return None


def _length(difference: Floats) -> Floats:
    """Euclidean lengths along the last axis; quicker on three channels than a general norm."""
    return np.asarray(np.sqrt(np.einsum("...c,...c->...", difference, difference)))


def _largest(mask: Mask) -> Mask:
    """The mask's largest connected part; the mask itself when it is empty."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())
