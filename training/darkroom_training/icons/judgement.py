"""Whether a picture shows its scene, by the classifier's word for every place of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkroom_training.icons.classifier import NOTHING, Classifier, Place, name, things_at
from darkroom_training.icons.scenes import CORNERS, Gradient, Land, Pixels, Plain, Scene
from darkroom_training.icons.stamps import COLORS, SIDES_PX

#: A colour further than this (RGB, Euclidean) from the one that was named is another.
FURTHEST_SHADE = 60.0
_STRIP_PX = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What of a scene a picture shows; `fault` says what is wrong first, for people.

    `things`: every thing that was asked for is at its place, in its colour. `count`: nothing is anywhere else.
    `background` is None where none was named.
    """

    things: bool
    count: bool
    background: bool | None
    fault: str | None

    @property
    def right(self) -> bool:
        """Whether everything is as asked for."""
        return self.fault is None


def judge(model: Classifier, picture: Pixels, scene: Scene) -> Verdict:
    """Compares a picture, uint8 [192, 192, 3], with the scene it should show."""
    wanted = things_at(scene)
    faults: list[str] = []
    if wanted:
        places = [place for place, _, _ in wanted]
        for (_, concept, color), seen in zip(
            wanted, name(model, np.stack([picture] * len(places)), places), strict=True
        ):
            if seen.concept != concept:
                faults.append(f"{seen.concept} ({seen.share:.2f}), not {concept}")
            elif color is not None and seen.color != color:
                faults.append(f"{concept} is {seen.color or 'of its own colours'}, not {color}")
    stray = _stray(model, picture, scene)
    background_fault = _background_fault(picture, scene)
    return Verdict(
        things=not faults,
        count=stray is None,
        background=None if not _is_named(scene) else background_fault is None,
        fault=(faults or [None])[0] or stray or background_fault,
    )


def _stray(model: Classifier, picture: Pixels, scene: Scene) -> str | None:
    """What is seen where nothing was asked for."""
    if scene.size == "large" or isinstance(scene.backdrop, Land):
        return None
    side_px = SIDES_PX["small"]
    taken = [place for place, _, _ in things_at(scene)]
    free = [
        Place(x, y, side_px)
        for x, y in CORNERS.values()
        if all(abs(x - p.x) >= side_px or abs(y - p.y) >= side_px for p in taken)
    ]
    if not free:
        return None
    for seen in name(model, np.stack([picture] * len(free)), free):
        if seen.concept != NOTHING and seen.share > 0.5:
            return f"{seen.concept} where nothing should be"
    return None


def _is_named(scene: Scene) -> bool:
    return isinstance(scene.backdrop, Gradient) or (
        isinstance(scene.backdrop, Plain) and scene.backdrop.color is not None
    )


def _background_fault(picture: Pixels, scene: Scene) -> str | None:
    pixels: Any = picture.astype(np.float32)
    match scene.backdrop:
        case Plain(str() as color):
            strips = {
                "top": (pixels[:_STRIP_PX], color),
                "bottom": (pixels[-_STRIP_PX:], color),
            }
        case Gradient(top, bottom):
            strips = {
                "top": (pixels[:_STRIP_PX], top),
                "bottom": (pixels[-_STRIP_PX:], bottom),
            }
        case _:
            return None
    for where, (strip, color) in strips.items():
        shade = np.median(strip.reshape(-1, 3), axis=0)
        if np.linalg.norm(shade - np.array(COLORS[color], dtype=np.float32)) > FURTHEST_SHADE:
            return f"{where} is not {color}"
    return None
