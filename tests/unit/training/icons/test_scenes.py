"""Scenes, their drawings and what is said of them."""

from __future__ import annotations

import random

import numpy as np
import pytest

from darkroom_training.icons import captions, vocabulary
from darkroom_training.icons.concepts import SHAPES
from darkroom_training.icons.scenes import (
    GRID_PX,
    SIZE_PX,
    Gradient,
    Land,
    Plain,
    Scene,
    draw,
    is_held_out,
    placed,
    random_scene,
)
from darkroom_training.icons.stamps import COLORS, SIDES_PX, StampBook, Thing, recolored

RED_CIRCLE = Thing("circle", "red")


def scenes(count: int, *, held_out: bool = False) -> list[Scene]:
    rng = random.Random(4)
    return [random_scene(rng, held_out=held_out) for _ in range(count)]


def is_color(pixel: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], name: str) -> bool:
    return bool(np.abs(pixel.astype(int) - COLORS[name]).max() <= 6)


def test_training_never_sees_what_is_held_out() -> None:
    assert not any(is_held_out(scene) for scene in scenes(500))
    assert all(is_held_out(scene) for scene in scenes(50, held_out=True))


def test_things_stand_on_the_grid_and_inside_the_picture() -> None:
    for scene in scenes(500):
        side_px = SIDES_PX[scene.size]
        for _, (x, y) in placed(scene):
            assert x % GRID_PX == y % GRID_PX == 0
            assert 0 <= min(x, y) <= max(x, y) <= SIZE_PX - side_px


@pytest.mark.parametrize(
    ("scene", "centers"),
    [
        pytest.param(Scene(things=(RED_CIRCLE,), backdrop=Plain("blue")), [(96, 96)], id="large"),
        pytest.param(
            Scene(things=(RED_CIRCLE,), backdrop=Plain("blue"), size="small", place="left"),
            [(48, 96)],
            id="left",
        ),
        pytest.param(
            Scene(things=(RED_CIRCLE,), count=2, backdrop=Plain("blue"), size="small"),
            [(48, 96), (144, 96)],
            id="two",
        ),
        pytest.param(
            Scene(things=(RED_CIRCLE,), count=3, backdrop=Plain("blue"), size="small"),
            [(96, 48), (48, 144), (144, 144)],
            id="three",
        ),
    ],
)
def test_every_thing_is_drawn_at_its_place_and_nothing_elsewhere(
    scene: Scene, centers: list[tuple[int, int]], book: StampBook
) -> None:
    picture = draw(scene, random.Random(1), book)
    assert picture.shape == (SIZE_PX, SIZE_PX, 3)
    for x, y in centers:
        assert is_color(picture[y, x], "red")
    radius_px = SIDES_PX[scene.size] * 0.42
    red = (np.abs(picture.astype(int) - COLORS["red"]).max(axis=2) < 12).sum()
    assert red == pytest.approx(len(centers) * np.pi * radius_px**2, rel=0.05)
    assert is_color(picture[0, 0], "blue")


def test_two_things_stand_side_by_side(book: StampBook) -> None:
    scene = Scene(
        things=(RED_CIRCLE, Thing("square", "green")), backdrop=Plain("white"), size="small"
    )
    picture = draw(scene, random.Random(1), book)
    assert is_color(picture[96, 48], "red")
    assert is_color(picture[96, 144], "green")


def test_no_shape_has_the_colour_of_its_background() -> None:
    for scene in scenes(1500):
        behind = {
            Plain: lambda b: {b.color},
            Gradient: lambda b: {b.top, b.bottom},
            Land: lambda _: set(),
        }[type(scene.backdrop)](scene.backdrop)
        assert not any(thing.concept in SHAPES and thing.color in behind for thing in scene.things)


def test_a_mirrored_thing_is_the_mirror_image(book: StampBook) -> None:
    stamp = book.stamp(Thing("cat"), "small")
    assert np.array_equal(book.stamp(Thing("cat"), "small", mirrored=True), stamp[:, ::-1])


def test_a_new_colour_changes_the_main_hue_and_nothing_else() -> None:
    picture = np.zeros((8, 8, 4), dtype=np.uint8)
    picture[:, :, 3] = 255
    picture[:, :4] = (200, 20, 30, 255)
    picture[:, 4:] = (90, 90, 90, 255)
    changed = recolored(picture, COLORS["blue"])
    assert np.abs(changed[0, 0, :3].astype(int) - COLORS["blue"]).max() < 12
    assert np.abs(changed[0, 7, :3].astype(int) - 90).max() <= 1


@pytest.mark.parametrize(
    ("scene", "expected"),
    [
        pytest.param(Scene(things=(Thing("cat"),), backdrop=Plain(None)), {"cat"}, id="a-cat"),
        pytest.param(
            Scene(things=(RED_CIRCLE,), count=2, backdrop=Plain("blue"), size="small"),
            {"two red circles on a blue background", "2 red circles on blue"},
            id="two",
        ),
        pytest.param(
            Scene(things=(), backdrop=Land("sea", "sunset")),
            {"a sunset over the sea", "the sea at sunset"},
            id="land",
        ),
    ],
)
def test_captions_say_the_scene(scene: Scene, expected: set[str]) -> None:
    rng = random.Random(2)
    said = {captions.caption(scene, rng) for _ in range(300)}
    assert said & expected if expected != {"cat"} else {"a cat", "cat", "a kitten"} <= said


def test_a_small_thing_is_told_from_a_large_one() -> None:
    """One caption may not stand for two pictures, or neither is learnt."""
    rng = random.Random(3)
    meant: dict[str, tuple[object, ...]] = {}
    for scene in scenes(3000):
        said = captions.caption(scene, rng)
        layout = (scene.things, scene.size, scene.place, scene.count, scene.backdrop)
        assert meant.setdefault(said, layout) == layout, said


def test_every_word_of_every_caption_is_of_the_vocabulary() -> None:
    known, rng = set(vocabulary.words()), random.Random(5)
    for scene in scenes(3000):
        text = captions.typed(captions.caption(scene, rng), rng, vocabulary.FILLERS)
        assert set(vocabulary.said(text)) <= known, text
