"""Random scenes of version 2: things and shapes on plain, gradient and landscape backgrounds."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from darkroom_training.icons.concepts import CONCEPTS, SHAPES
from darkroom_training.icons.stamps import COLORS, ICON_COLORS, SIDES_PX, Stamp, StampBook, Thing
from darkroom_training.scenes import Rgb

SIZE_PX = 192
#: The autoencoder's factor; every place is a multiple of it.
GRID_PX = 8

Pixels = npt.NDArray[np.uint8]

#: Upper left corner of a small thing, in pixels.
CORNERS: dict[str, tuple[int, int]] = {
    "center": (56, 56),
    "left": (8, 56),
    "right": (104, 56),
    "top": (56, 8),
    "bottom": (56, 104),
}
#: Upper left corners where more than one small thing stands.
GROUPS: dict[int, tuple[tuple[int, int], ...]] = {
    2: ((8, 56), (104, 56)),
    3: ((56, 8), (8, 104), (104, 104)),
}
#: Upper left corner of a large thing.
LARGE_CORNER = (32, 32)

#: What is behind a thing when nothing is said about it.
PALES: tuple[Rgb, ...] = (
    (246, 246, 242),
    (214, 232, 250),
    (252, 240, 206),
    (216, 240, 218),
    (248, 222, 226),
)

#: Sky above, sky at the horizon, for each time of day.
SKIES: dict[str, tuple[Rgb, Rgb]] = {
    "day": ((96, 172, 240), (200, 228, 250)),
    "sunset": ((104, 60, 140), (252, 158, 80)),
    "night": ((12, 14, 46), (44, 52, 104)),
}
LIGHT: dict[str, float] = {"day": 1.0, "sunset": 0.76, "night": 0.42}

#: Ground colour of each land, before the time of day dims it.
LANDS: dict[str, Rgb] = {
    "meadow": (110, 190, 82),
    "mountains": (122, 122, 142),
    "sea": (38, 112, 182),
    "desert": (232, 194, 120),
    "snow": (236, 242, 250),
}


@dataclass(frozen=True, slots=True)
class Plain:
    """One colour; none named when `color` is None."""

    color: str | None


@dataclass(frozen=True, slots=True)
class Gradient:
    """One colour at the top, another at the bottom."""

    top: str
    bottom: str


@dataclass(frozen=True, slots=True)
class Land:
    """A landscape at a time of day."""

    land: str
    time: str


Backdrop = Plain | Gradient | Land


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a caption says.

    No thing at all (a landscape), one (`count` of them), or two different ones, side by side. `place` is where
    a small thing stands; a large one has the middle. `facing` is a side where one is named.
    """

    things: tuple[Thing, ...]
    backdrop: Backdrop
    count: int = 1
    size: str = "large"
    place: str = "center"
    facing: str | None = None


def is_held_out(scene: Scene) -> bool:
    """Whether training never sees this (one in ten, by hash of all that is named)."""
    digest = hashlib.sha256(repr(scene).encode()).digest()
    return bool(scene.things) and digest[0] % 10 == 0


def random_scene(rng: random.Random, *, held_out: bool = False) -> Scene:
    """A scene for training, or (`held_out`) one that training never sees."""
    while True:
        scene = _any_scene(rng)
        if _visible(scene) and is_held_out(scene) == held_out:
            return scene


def _visible(scene: Scene) -> bool:
    """Whether no shape has the colour of what is behind it."""
    match scene.backdrop:
        case Plain(color):
            behind = {color}
        case Gradient(top, bottom):
            behind = {top, bottom}
        case Land():
            behind = set()
    return not any(
        thing.concept in SHAPES and thing.color in behind - {None} for thing in scene.things
    )


def _any_scene(rng: random.Random) -> Scene:
    kind = rng.random()
    if kind < 0.06:
        return Scene(things=(), backdrop=_land(rng))
    if kind < 0.14:
        return Scene(
            things=(_thing(rng), _thing(rng)), backdrop=_behind(rng, plain=True), size="small"
        )
    thing = _thing(rng)
    if kind < 0.32:
        count = rng.choice((2, 2, 3))
        return Scene(things=(thing,), count=count, backdrop=_behind(rng), size="small")
    if kind < 0.52:
        place = rng.choice(tuple(CORNERS))
        return Scene(things=(thing,), backdrop=_behind(rng), size="small", place=place)
    faces = CONCEPTS[thing.concept].faces
    facing = rng.choice(("left", "right")) if faces and rng.random() < 0.15 else None
    return Scene(things=(thing,), backdrop=_behind(rng), facing=facing)


def _thing(rng: random.Random) -> Thing:
    if rng.random() < 0.12:
        return Thing(rng.choice(SHAPES), rng.choice(tuple(COLORS)))
    concept = rng.choice([name for name in CONCEPTS if name not in SHAPES])
    colored = CONCEPTS[concept].recolored and rng.random() < 0.6
    return Thing(concept, rng.choice(ICON_COLORS) if colored else None)


def _land(rng: random.Random) -> Land:
    return Land(rng.choice(tuple(LANDS)), rng.choice(tuple(SKIES)))


def _behind(rng: random.Random, *, plain: bool = False) -> Backdrop:
    kind = rng.random()
    if kind < 0.45:
        return Plain(None)
    if kind < 0.75 or plain:
        return Plain(rng.choice(tuple(COLORS)))
    if kind < 0.83:
        return Gradient(*rng.sample(tuple(COLORS), 2))
    return _land(rng)


def draw(scene: Scene, rng: random.Random, book: StampBook) -> Pixels:
    """Draws a scene with small random differences of shade: uint8 [192, 192, 3]."""
    pixels = _backdrop(scene.backdrop, rng)
    for thing, (x, y) in placed(scene):
        faces = CONCEPTS[thing.concept].faces
        mirrored = scene.facing is not None and scene.facing != faces
        _paint(pixels, book.stamp(thing, scene.size, mirrored=mirrored), x, y)
    return np.clip(pixels + 0.5, 0, 255).astype(np.uint8)


def placed(scene: Scene) -> list[tuple[Thing, tuple[int, int]]]:
    """Every thing with its upper left corner.

    Nothing varies here: what a text encoder plans (see `darkroom_training.icons.text`) would be the blurred
    mean of all places.
    """
    if scene.size == "large":
        # In a landscape things stand on the ground.
        down_px = GRID_PX if isinstance(scene.backdrop, Land) else 0
        corners: tuple[tuple[int, int], ...] = ((LARGE_CORNER[0], LARGE_CORNER[1] + down_px),)
    elif len(scene.things) == 2 or scene.count > 1:
        corners = GROUPS[max(scene.count, len(scene.things))]
    else:
        corners = (CORNERS[scene.place],)
    things = scene.things * (len(corners) if len(scene.things) == 1 else 1)
    return list(zip(things, corners, strict=False))


def _paint(pixels: npt.NDArray[np.float32], stamp: Stamp, x: int, y: int) -> None:
    side = stamp.shape[0]
    part = pixels[y : y + side, x : x + side]
    part += (stamp[:, :, :3] - part) * stamp[:, :, 3:]


def _shade(color: Rgb, rng: random.Random, amount: int = 4) -> npt.NDArray[np.float32]:
    values = [min(255, max(0, channel + rng.randint(-amount, amount))) for channel in color]
    return np.array(values, dtype=np.float32)


def _vertical(
    top: npt.NDArray[np.float32], bottom: npt.NDArray[np.float32], height: int = SIZE_PX
) -> npt.NDArray[np.float32]:
    ramp = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None, None]
    return np.broadcast_to(top * (1 - ramp) + bottom * ramp, (height, SIZE_PX, 3)).copy()


def _backdrop(backdrop: Backdrop, rng: random.Random) -> npt.NDArray[np.float32]:
    match backdrop:
        case Plain(color):
            shade = _shade(rng.choice(PALES) if color is None else COLORS[color], rng)
            return _vertical(shade, shade)
        case Gradient(top, bottom):
            return _vertical(_shade(COLORS[top], rng), _shade(COLORS[bottom], rng))
        case Land():
            return _landscape(backdrop, rng)


def _landscape(scene: Land, rng: random.Random) -> npt.NDArray[np.float32]:
    above, horizon = SKIES[scene.time]
    pixels = _vertical(_shade(above, rng), _shade(horizon, rng))
    _disc(pixels, scene)
    x = np.arange(SIZE_PX, dtype=np.float32) / SIZE_PX
    phase = rng.choice((-0.25, 0.0, 0.25))
    level = np.full_like(x, 0.66)
    if scene.land == "mountains":
        level = 0.40 + 0.52 * np.abs(((x + phase * 0.4) * 2.5) % 1.0 - 0.5)
    elif scene.land != "sea":
        level = 0.66 + 0.035 * np.sin(2 * np.pi * (1.2 * x + phase))
    y = (np.arange(SIZE_PX, dtype=np.float32)[:, None] + 0.5) / SIZE_PX
    cover = np.clip((y - level[None, :]) * SIZE_PX + 0.5, 0, 1)[:, :, None].astype(np.float32)
    depth = np.clip(1.10 - 0.4 * (y - 0.55), 0.8, 1.15)[:, :, None].astype(np.float32)
    ground = np.array(LANDS[scene.land], dtype=np.float32) * LIGHT[scene.time] * depth
    return pixels * (1 - cover) + ground * cover


#: Centre and radius of sun or moon, as shares of the image's edge, and its colour.
_DISCS: dict[str, tuple[float, float, float, Rgb]] = {
    "day": (0.80, 0.18, 0.085, (255, 232, 110)),
    "sunset": (0.50, 0.60, 0.15, (255, 214, 96)),
    "night": (0.80, 0.18, 0.075, (240, 240, 225)),
}


def _disc(pixels: npt.NDArray[np.float32], scene: Land) -> None:
    """Sun or moon; the setting sun touches the horizon."""
    x, y, radius, color = _DISCS[scene.time]
    axis = (np.arange(SIZE_PX, dtype=np.float32) + 0.5) / SIZE_PX
    away = np.hypot(axis[None, :] - x, axis[:, None] - y)
    cover = np.clip((radius - away) * SIZE_PX + 0.5, 0, 1)[:, :, None].astype(np.float32)
    pixels += (np.array(color, dtype=np.float32) - pixels) * cover


#: What stands on what is hard to see on a background of much the same colour; nothing forbids it.
assert all(side % GRID_PX == 0 for side in SIDES_PX.values())
