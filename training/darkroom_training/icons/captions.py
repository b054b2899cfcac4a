"""What people type for a scene."""

from __future__ import annotations

import random
from collections.abc import Sequence

from darkroom_training.icons.concepts import CONCEPTS, article, plural
from darkroom_training.icons.scenes import Gradient, Land, Plain, Scene
from darkroom_training.icons.stamps import Thing

NUMBERS: dict[int, tuple[str, ...]] = {
    2: ("two", "two", "two", "2"),
    3: ("three", "three", "three", "3"),
}
PLACE_PHRASES: dict[str, tuple[str, ...]] = {
    "left": ("on the left", "on the left side"),
    "right": ("on the right", "on the right side"),
    "top": ("at the top",),
    "bottom": ("at the bottom",),
}
SMALL = ("small", "small", "little", "tiny")
LARGE = ("big", "large")
LAND_PHRASES: dict[str, tuple[str, ...]] = {
    "meadow": ("in a meadow", "on a meadow", "on the grass", "in a field"),
    "mountains": ("in the mountains", "in front of mountains"),
    "sea": ("by the sea", "at the sea", "on the sea", "in the ocean"),
    "desert": ("in the desert", "in a desert"),
    "snow": ("in the snow", "on snow"),
}
LAND_NAMES: dict[str, tuple[str, ...]] = {
    "meadow": ("a meadow", "a field", "green hills"),
    "mountains": ("mountains", "the mountains"),
    "sea": ("the sea", "the ocean", "a sea"),
    "desert": ("a desert", "the desert"),
    "snow": ("a snow landscape", "snow", "a snowy landscape"),
}
TIME_PHRASES: dict[str, tuple[str, ...]] = {
    "day": ("", "", "by day", "on a sunny day"),
    "sunset": ("at sunset",),
    "night": ("at night",),
}
IN_THE_MIDDLE = ("in the middle", "in the center")
OPENINGS = ("a picture of", "a drawing of", "an icon of", "an image of", "a painting of")


def caption(scene: Scene, rng: random.Random) -> str:
    """One of the ways to say the scene."""
    if not scene.things:
        assert isinstance(scene.backdrop, Land), "a scene without things is a landscape"
        return _landscape(scene.backdrop, rng)
    subject = _subject(scene, rng)
    where = _where(scene, rng)
    ground = _ground(scene, rng)
    style = rng.random()
    if style < 0.10:
        subject = f"{rng.choice(OPENINGS)} {subject}"
    elif style < 0.18 and scene.count == 1 and len(scene.things) == 1:
        subject = subject.split(" ", 1)[1]
    return " ".join(part for part in (subject, where, ground) if part)


def typed(text: str, rng: random.Random, fillers: Sequence[str]) -> str:
    """A caption as people may type it: words that say nothing, a capital letter, a full stop."""
    if rng.random() < 0.12:
        words = text.split(" ")
        at = 1 if words[0] in ("a", "an", *NUMBERS[2], *NUMBERS[3]) else 0
        if at and words[0] in ("a", "an"):
            words[0] = "a"
        text = " ".join([*words[:at], rng.choice(fillers), *words[at:]])
    if rng.random() < 0.15:
        text = text[0].upper() + text[1:]
    return text + "." if rng.random() < 0.05 else text


def _subject(scene: Scene, rng: random.Random) -> str:
    if len(scene.things) == 2:
        return " and ".join(article(_noun(thing, rng)) for thing in scene.things)
    (thing,) = scene.things
    if scene.count > 1:
        return f"{rng.choice(NUMBERS[scene.count])} {_nouns(thing, rng)}"
    noun = _noun(thing, rng)
    if scene.size == "large" and rng.random() < 0.12:
        noun = f"{rng.choice(LARGE)} {noun}"
    # In the middle nothing but this word says that a thing is small.
    if scene.size == "small" and (scene.place == "center" or rng.random() < 0.2):
        noun = f"{rng.choice(SMALL)} {noun}"
    return article(noun)


def _word(thing: Thing, rng: random.Random) -> str:
    words = CONCEPTS[thing.concept].words
    return words[0] if rng.random() < 0.6 else rng.choice(words)


def _colored(thing: Thing, word: str) -> str:
    return f"{thing.color} {word}" if thing.color else word


def _noun(thing: Thing, rng: random.Random) -> str:
    return _colored(thing, _word(thing, rng))


def _nouns(thing: Thing, rng: random.Random) -> str:
    return _colored(thing, plural(_word(thing, rng)))


def _where(scene: Scene, rng: random.Random) -> str:
    if scene.facing is not None:
        return rng.choice((f"facing {scene.facing}", f"looking {scene.facing}"))
    one_small = scene.size == "small" and scene.count == 1 and len(scene.things) == 1
    if one_small and scene.place != "center":
        return rng.choice(PLACE_PHRASES[scene.place])
    return rng.choice(("", "", *IN_THE_MIDDLE)) if one_small else ""


def _ground(scene: Scene, rng: random.Random) -> str:
    match scene.backdrop:
        case Plain(None):
            return ""
        case Plain(str() as color):
            kind = rng.random()
            if kind < 0.15:
                return f"on {color}"
            return f"on {article(color if kind < 0.9 else f'plain {color}')} background"
        case Gradient(top, bottom):
            return f"on {article(top)} to {bottom} {rng.choice(('gradient', 'background', 'gradient background'))}"
        case Land(land, time):
            phrases = (rng.choice(LAND_PHRASES[land]), rng.choice(TIME_PHRASES[time]))
            return " ".join(phrase for phrase in phrases if phrase)
    raise AssertionError(scene.backdrop)


def _landscape(land: Land, rng: random.Random) -> str:
    name = rng.choice(LAND_NAMES[land.land])
    if land.time == "sunset" and rng.random() < 0.5:
        return f"{rng.choice(('a sunset', 'sunset'))} over {name}"
    return f"{name} {rng.choice(TIME_PHRASES[land.time])}".strip()
