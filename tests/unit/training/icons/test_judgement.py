"""The judge, with a classifier that is always right: what it makes of what it is told."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from darkroom_training.icons import classifier, judgement
from darkroom_training.icons.classifier import Classifier, Named, Place
from darkroom_training.icons.fill_example import random_fill
from darkroom_training.icons.measurement import judge_fill
from darkroom_training.icons.product import PRODUCTS
from darkroom_training.icons.scenes import SIZE_PX, Pixels, Plain, Scene, draw, random_scene
from darkroom_training.icons.stamps import StampBook, Thing

CAT = Scene(things=(Thing("cat"),), backdrop=Plain("blue"), size="small", place="left")
MODEL = Classifier()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[int, int], Named]:
    """What is found at an upper left corner; elsewhere nothing."""
    found: dict[tuple[int, int], Named] = {}

    def name(model: Classifier, pictures: Pixels, places: list[Place]) -> list[Named]:
        del model, pictures
        nothing = Named(classifier.NOTHING, None, 1.0)
        return [found.get((place.x, place.y), nothing) for place in places]

    monkeypatch.setattr(judgement, "name", name)
    return found


def test_what_is_right_has_no_fault(seen: dict[tuple[int, int], Named], book: StampBook) -> None:
    seen[8, 56] = Named("cat", None, 0.9)
    verdict = judgement.judge(MODEL, draw(CAT, random.Random(1), book), CAT)
    assert verdict.right
    assert verdict.background is True


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        pytest.param({}, "nothing", id="nothing-there"),
        pytest.param({(8, 56): Named("dog", None, 0.8)}, "dog (0.80), not cat", id="another"),
        pytest.param(
            {(8, 56): Named("cat", None, 0.9), (104, 56): Named("cat", None, 0.9)},
            "cat where nothing should be",
            id="one-too-many",
        ),
    ],
)
def test_what_is_wrong_is_said(
    seen: dict[tuple[int, int], Named],
    found: dict[tuple[int, int], Named],
    fault: str,
    book: StampBook,
) -> None:
    seen.update(found)
    verdict = judgement.judge(MODEL, draw(CAT, random.Random(1), book), CAT)
    assert not verdict.right
    assert verdict.fault is not None
    assert fault in verdict.fault


def test_a_colour_counts_where_one_was_named(seen: dict[tuple[int, int], Named]) -> None:
    red = replace(CAT, things=(Thing("car", "red"),), backdrop=Plain(None))
    blank = np.full((SIZE_PX, SIZE_PX, 3), 240, dtype=np.uint8)
    seen[8, 56] = Named("car", "blue", 0.9)
    assert judgement.judge(MODEL, blank, red).fault == "car is blue, not red"
    seen[8, 56] = Named("car", "red", 0.9)
    assert judgement.judge(MODEL, blank, red).right


def test_a_background_of_another_colour_is_a_fault(
    seen: dict[tuple[int, int], Named], book: StampBook
) -> None:
    seen[8, 56] = Named("cat", None, 0.9)
    picture = draw(replace(CAT, backdrop=Plain("green")), random.Random(1), book)
    assert judgement.judge(MODEL, picture, CAT).fault == "top is not blue"


def test_empty_places_are_empty() -> None:
    rng = random.Random(6)
    for _ in range(300):
        scene = random_scene(rng)
        empty = classifier.empty_place(scene, rng)
        if empty is not None:
            for taken, _, _ in classifier.things_at(scene):
                assert (
                    abs(empty.x - taken.x) >= taken.side_px - 8
                    or abs(empty.y - taken.y) >= taken.side_px - 8
                )


def test_a_place_at_the_edge_can_be_looked_at() -> None:
    picture = torch.rand(3, SIZE_PX, SIZE_PX)
    for place in (Place(-6, -6, 128), Place(SIZE_PX - 80 + 6, 0, 80)):
        assert classifier.at_place(picture, place).shape == (3, 64, 64)


def test_a_fill_repaints_its_mask_only_and_the_new_thing_is_in_it(
    seen: dict[tuple[int, int], Named], book: StampBook
) -> None:
    rng = random.Random(2)
    for _ in range(40):
        fill = random_fill(rng, book, replaced_only=True)
        assert np.array_equal(fill.original[~fill.mask], fill.wanted_picture[~fill.mask])
        ((place, concept, color),) = classifier.things_at(fill.wanted)
        inside = fill.mask[place.y : place.y + place.side_px, place.x : place.x + place.side_px]
        assert inside.mean() > 0.9
        seen.clear()
        seen[place.x, place.y] = Named(concept, color, 0.9)
        result = judge_fill(MODEL, fill, fill.wanted_picture)
        assert result.verdict.right
        assert result.outside_difference == 0
        spoilt = np.where(fill.mask[:, :, None], fill.wanted_picture, 255 - fill.original)
        assert judge_fill(MODEL, fill, spoilt.astype(np.uint8)).outside_difference > 6


def _counts(right: int) -> dict[str, object]:
    return {"all": {"right": right, "of": 100}, "outside difference before pasting": 3.0}


@pytest.mark.parametrize(
    ("drawn", "true", "fault"),
    [
        pytest.param(95, 99, None, id="good-enough"),
        pytest.param(94, 99, "94.0%, less than 95%", id="too-little-right"),
        pytest.param(100, 98, "the judge is right on 98.0% only", id="a-judge-that-errs"),
    ],
)
def test_the_gate_asks_for_the_models_pictures_and_for_the_judge(
    drawn: int, true: int, fault: str | None
) -> None:
    report = {
        "generate": {"overall": _counts(drawn)},
        "fill": _counts(drawn),
        "true scenes": _counts(true),
    }
    for product in PRODUCTS.values():
        faults = product.faults(report)
        assert faults == [] if fault is None else fault in faults[0]


def test_a_fill_that_changes_what_it_should_keep_is_not_exported() -> None:
    report = {"fill": _counts(100) | {"outside difference before pasting": 7.0}}
    report["true scenes"] = _counts(100)
    assert "outside the mask" in PRODUCTS["tiny-flux-fill"].faults(report)[0]
