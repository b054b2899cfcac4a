"""Random scenes of the vocabulary, drawn, with a caption each."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from darkroom_training.shapes import SHAPES, coverage

SIZE_PX = 256

Rgb = tuple[int, int, int]

COLORS: dict[str, Rgb] = {
    "red": (216, 38, 42),
    "orange": (246, 140, 28),
    "yellow": (250, 216, 52),
    "green": (46, 160, 72),
    "blue": (42, 98, 224),
    "purple": (132, 62, 188),
    "white": (244, 244, 244),
    "black": (24, 24, 28),
}

#: Centre of the object, as a share of the image's edge.
PLACES: dict[str, tuple[float, float]] = {
    "center": (0.5, 0.5),
    "left": (0.27, 0.5),
    "right": (0.73, 0.5),
    "top": (0.5, 0.27),
    "bottom": (0.5, 0.73),
}

PLACE_PHRASES: dict[str, tuple[str, ...]] = {
    "center": ("", "", "", "in the center", "in the middle"),
    "left": ("on the left",),
    "right": ("on the right",),
    "top": ("at the top",),
    "bottom": ("at the bottom",),
}

#: Sky above, sky at the horizon, for each time of day.
SKIES: dict[str, tuple[Rgb, Rgb]] = {
    "by day": ((70, 150, 235), (190, 224, 250)),
    "at sunset": ((92, 52, 130), (250, 150, 70)),
    "at night": ((10, 12, 40), (38, 44, 92)),
}

#: Ground colour of each land, before the time of day dims it.
LANDS: dict[str, Rgb] = {
    "hills": (72, 158, 70),
    "mountains": (112, 112, 132),
    "the sea": (30, 96, 160),
    "a desert": (226, 186, 112),
}

LIGHT: dict[str, float] = {"by day": 1.0, "at sunset": 0.72, "at night": 0.36}

#: Half the extent of an object, as a share of the image's edge.
RADIUS = 0.21


@dataclass(frozen=True, slots=True)
class ObjectScene:
    """One object on a background; `gradient_to` is the colour at the bottom, if not plain."""

    shape: str
    color: str
    background: str
    place: str
    gradient_to: str | None = None


@dataclass(frozen=True, slots=True)
class LandScene:
    """A landscape at a time of day."""

    land: str
    time: str


@dataclass(frozen=True, slots=True)
class PlainScene:
    """Nothing but a background."""

    background: str


Scene = ObjectScene | LandScene | PlainScene


def is_held_out(shape: str, color: str, background: str) -> bool:
    """Whether a triple is kept out of training (one in ten, by hash)."""
    digest = hashlib.sha256(f"{shape}/{color}/{background}".encode()).digest()
    return digest[0] % 10 == 0


def random_scene(rng: random.Random, *, held_out: bool = False) -> Scene:
    """A scene for training, or (`held_out`) an object scene of a triple never trained on."""
    kind = rng.random()
    if not held_out and kind < 0.07:
        return LandScene(rng.choice(tuple(LANDS)), rng.choice(tuple(SKIES)))
    if not held_out and kind < 0.10:
        return PlainScene(rng.choice(tuple(COLORS)))
    while True:
        shape, color = rng.choice(SHAPES), rng.choice(tuple(COLORS))
        background = rng.choice([name for name in COLORS if name != color])
        if is_held_out(shape, color, background) == held_out:
            break
    gradient_to = None
    if not held_out and rng.random() < 0.10:
        gradient_to = rng.choice([n for n in COLORS if n not in (color, background)])
    place = rng.choice(tuple(PLACES))
    return ObjectScene(shape, color, background, place, gradient_to)


def article(noun: str) -> str:
    """The noun with `a` or `an` before it."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def caption(scene: Scene, rng: random.Random) -> str:
    """One of the ways to say the scene."""
    match scene:
        case LandScene(land, time):
            return f"{land} {time}"
        case PlainScene(background):
            return f"a plain {background} background"
        case ObjectScene(shape, color, background, place, gradient_to):
            where = rng.choice(PLACE_PHRASES[place])
            where = f" {where}" if where else ""
            if gradient_to is not None:
                ground = f"{background} to {gradient_to} gradient background"
            else:
                ground = f"{background} background"
            style = rng.random()
            thing = f"{color} {shape}"
            if style < 0.12 and gradient_to is None:
                return f"{article(thing)}{where}"
            if style < 0.27:
                return f"{thing}{where}, {ground}"
            if style < 0.40:
                return f"a picture of {article(thing)}{where} on {article(ground)}"
            return f"{article(thing)}{where} on {article(ground)}"


def _jitter(color: Rgb, rng: random.Random, amount: int = 7) -> npt.NDArray[np.float32]:
    shade = [min(255, max(0, value + rng.randint(-amount, amount))) for value in color]
    return np.array(shade, dtype=np.float32)


def _vertical(
    top: npt.NDArray[np.float32], bottom: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    ramp = np.linspace(0.0, 1.0, SIZE_PX, dtype=np.float32)[:, None, None]
    column = top * (1 - ramp) + bottom * ramp
    return np.broadcast_to(column, (SIZE_PX, SIZE_PX, 3)).copy()


def _paint(
    pixels: npt.NDArray[np.float32], cover: npt.NDArray[np.float32], color: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    alpha = cover[:, :, None]
    return pixels * (1 - alpha) + color * alpha


def _draw_land(scene: LandScene, rng: random.Random) -> npt.NDArray[np.float32]:
    above, horizon = SKIES[scene.time]
    light = LIGHT[scene.time]
    pixels = _vertical(_jitter(above, rng, 4), _jitter(horizon, rng, 4))
    moon_or_sun = {
        "by day": (255, 236, 120),
        "at sunset": (255, 120, 60),
        "at night": (240, 240, 225),
    }[scene.time]
    disc = coverage(
        "circle",
        size_px=SIZE_PX,
        center=(SIZE_PX * rng.uniform(0.68, 0.76), SIZE_PX * rng.uniform(0.20, 0.26)),
        radius_px=SIZE_PX * 0.085,
    )
    pixels = _paint(pixels, disc, np.array(moon_or_sun, dtype=np.float32))
    ground = np.array(LANDS[scene.land], dtype=np.float32) * light
    x = np.arange(SIZE_PX, dtype=np.float32) / SIZE_PX
    phase = rng.uniform(-0.25, 0.25)
    if scene.land == "the sea":
        level = np.full_like(x, 0.60)
    elif scene.land == "mountains":
        peaks = np.abs(((x + phase * 0.2) * 2.5) % 1.0 - 0.5)
        level = 0.42 + 0.62 * peaks
    elif scene.land == "hills":
        level = 0.64 + 0.055 * np.sin(2 * np.pi * (1.5 * x + phase))
    else:
        level = 0.66 + 0.035 * np.sin(2 * np.pi * (x + phase)) * np.cos(2 * np.pi * 0.5 * x)
    y = (np.arange(SIZE_PX, dtype=np.float32)[:, None] + 0.5) / SIZE_PX
    cover = np.clip((y - level[None, :]) * SIZE_PX + 0.5, 0.0, 1.0).astype(np.float32)
    shade = np.clip(1.12 - 0.35 * (y - 0.5), 0.8, 1.2)[:, :, None].astype(np.float32)
    return pixels * (1 - cover[:, :, None]) + ground * shade * cover[:, :, None]


def draw(scene: Scene, rng: random.Random) -> npt.NDArray[np.uint8]:
    """Draws a scene with small random differences of colour, size and place: uint8 [256, 256, 3]."""
    match scene:
        case LandScene():
            pixels = _draw_land(scene, rng)
        case PlainScene(background):
            color = _jitter(COLORS[background], rng)
            pixels = _vertical(color, color)
        case ObjectScene(shape, color_name, background, place, gradient_to):
            top = _jitter(COLORS[background], rng)
            bottom = top if gradient_to is None else _jitter(COLORS[gradient_to], rng)
            pixels = _vertical(top, bottom)
            x, y = PLACES[place]
            center = (
                SIZE_PX * (x + rng.uniform(-0.015, 0.015)),
                SIZE_PX * (y + rng.uniform(-0.015, 0.015)),
            )
            radius = SIZE_PX * RADIUS * rng.uniform(0.95, 1.05)
            cover = coverage(shape, size_px=SIZE_PX, center=center, radius_px=radius)
            pixels = _paint(pixels, cover, _jitter(COLORS[color_name], rng))
    return np.clip(pixels + 0.5, 0, 255).astype(np.uint8)
