"""The checker says yes to true pictures and no to others, or its figures would mean nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from darkroom_training.evaluation import Pixels, judge
from darkroom_training.scenes import COLORS, PLACES, ObjectScene, draw, random_scene
from darkroom_training.shapes import SHAPES

SCENE = ObjectScene("star", "green", "white", "left")


def _scenes(count: int, seed: int) -> Iterator[tuple[ObjectScene, Pixels]]:
    rng = random.Random(seed)
    while count:
        scene = random_scene(rng, held_out=rng.random() < 0.1)
        if isinstance(scene, ObjectScene):
            count -= 1
            yield scene, draw(scene, rng)


def _blurred(picture: Pixels) -> Pixels:
    smooth = ndimage.gaussian_filter(picture.astype(np.float32), (3, 3, 0))
    return np.clip(smooth + 0.5, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("soft", [False, True], ids=["as-drawn", "blurred"])
def test_true_pictures_pass(soft: bool) -> None:
    verdicts = [
        judge(_blurred(picture) if soft else picture, scene) for scene, picture in _scenes(60, 1)
    ]
    assert sum(verdict.colors for verdict in verdicts) >= 59
    assert sum(verdict.shape for verdict in verdicts) >= 58


def test_pictures_of_other_scenes_fail() -> None:
    drawn = list(_scenes(60, 2))
    verdicts = [
        (scene, other, judge(picture, scene))
        for (scene, _), (other, picture) in zip(drawn, drawn[1:] + drawn[:1], strict=True)
    ]
    passed = [(scene, other) for scene, other, verdict in verdicts if verdict.right]
    assert all(scene == other for scene, other in passed)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != SCENE.shape])
def test_another_shape_fails_by_its_shape_alone(shape: str) -> None:
    picture = draw(ObjectScene(shape, "green", "white", "left"), random.Random(3))
    verdict = judge(picture, SCENE)
    assert verdict.colors
    assert not verdict.shape
    assert verdict.fault is not None
    assert verdict.fault.startswith(shape)


@pytest.mark.parametrize("place", [place for place in PLACES if place != SCENE.place])
def test_another_place_fails(place: str) -> None:
    picture = draw(ObjectScene("star", "green", "white", place), random.Random(3))
    verdict = judge(picture, SCENE)
    assert (verdict.background, verdict.object_at_place, verdict.shape) == (True, False, False)


@pytest.mark.parametrize("color", [name for name in COLORS if name not in ("green", "white")])
def test_another_color_of_the_object_fails(color: str) -> None:
    picture = draw(ObjectScene("star", color, "white", "left"), random.Random(3))
    verdict = judge(picture, SCENE)
    assert (verdict.background, verdict.object_at_place) == (True, False)


@pytest.mark.parametrize("color", [name for name in COLORS if name not in ("green", "white")])
def test_another_background_fails_by_its_background_alone(color: str) -> None:
    picture = draw(ObjectScene("star", "green", color, "left"), random.Random(3))
    verdict = judge(picture, SCENE)
    assert (verdict.background, verdict.object_at_place, verdict.shape) == (False, True, True)


def test_a_background_that_was_not_asked_for_does_not_count() -> None:
    picture = draw(ObjectScene("star", "green", "red", "left"), random.Random(3))
    verdict = judge(picture, SCENE, background_named=False)
    assert verdict.background is None
    assert verdict.right


@pytest.mark.parametrize(
    ("top", "bottom", "right"),
    [
        pytest.param("blue", "white", True, id="as-asked"),
        pytest.param("white", "blue", False, id="upside-down"),
        pytest.param("blue", "blue", False, id="plain"),
    ],
)
def test_a_gradient_goes_from_one_color_to_the_other(top: str, bottom: str, right: bool) -> None:
    scene = ObjectScene("circle", "red", "blue", "center", gradient_to="white")
    drawn = ObjectScene("circle", "red", top, "center", gradient_to=bottom)
    assert judge(draw(drawn, random.Random(3)), scene).background is right


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), channels=st.sampled_from([(1, 2, 0), (2, 0, 1)]))
def test_turning_all_colors_around_fails(seed: int, channels: tuple[int, int, int]) -> None:
    # Black and white are the same in every order of the channels.
    colored = [name for name in COLORS if name not in ("black", "white")]
    rng = random.Random(seed)
    color, background = rng.sample(colored, 2)
    scene = ObjectScene(rng.choice(SHAPES), color, background, rng.choice(tuple(PLACES)))
    picture = draw(scene, rng)
    assert judge(picture, scene).right
    assert not judge(np.ascontiguousarray(picture[:, :, channels]), scene).background


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(np.full((256, 256, 3), 244, np.uint8), id="background-only"),
        pytest.param(np.full((256, 256, 3), (46, 160, 72), np.uint8), id="object-color-only"),
        pytest.param(np.full((256, 256, 3), 128, np.uint8), id="gray"),
        pytest.param(
            np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8), id="noise"
        ),
    ],
)
def test_pictures_of_nothing_fail(picture: Pixels) -> None:
    verdict = judge(picture, SCENE)
    assert not verdict.object_at_place
    assert not verdict.shape
    assert verdict.fault is not None


def test_a_second_object_fails() -> None:
    picture = draw(SCENE, random.Random(3))
    second = draw(ObjectScene("circle", "red", "white", "right"), random.Random(3))
    picture[:, 134:] = second[:, 134:]
    assert judge(picture, SCENE).fault == "other things are drawn beside the object"


def test_a_gradient_of_another_course_is_no_second_object() -> None:
    scene = ObjectScene("circle", "red", "blue", "center", gradient_to="white")
    picture = draw(scene, random.Random(3))
    stepped = draw(ObjectScene("circle", "red", "blue", "center"), random.Random(3))
    picture[:200] = stepped[:200]
    assert judge(picture, scene).right
