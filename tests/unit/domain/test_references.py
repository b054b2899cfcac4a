"""How many reference images a class takes, and in which size they and the edit are."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from darkroom_server.domain.image_size import Size
from darkroom_server.domain.references import REFERENCE_RULES, ReferenceRule, SizeSource
from darkroom_server.parameters.bounds import MAX_REFERENCE_COUNT
from darkroom_server.pipelines.pipeline_calls import known_calls

SHRINKING = ReferenceRule(max_count=3, shrinks=True, area_px=64 * 64)
SIZES = [Size(40, 30), Size(128, 64), Size(30, 60)]


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (Size(64, 64), Size(64, 64)),
        (Size(65, 64), Size(64, 63)),
        (Size(128, 64), Size(90, 45)),
        (Size(100_000, 1), Size(20_238, 1)),
    ],
)
def test_what_shrinks_does_so_to_its_area(size: Size, shown: Size) -> None:
    assert SHRINKING.shown(size) == shown
    assert replace(SHRINKING, shrinks=False).shown(size) == size


@pytest.mark.parametrize(
    ("source", "fills", "followed"),
    [
        pytest.param(SizeSource.DEFAULT, False, None, id="default"),
        pytest.param(SizeSource.FIRST, False, Size(40, 30), id="first"),
        pytest.param(SizeSource.LAST, False, Size(30, 60), id="last"),
        pytest.param(SizeSource.FIRST, True, Size(74, 55), id="first-filled"),
        pytest.param(SizeSource.LAST, True, Size(45, 91), id="last-filled"),
    ],
)
def test_an_edit_follows_one_of_its_images(
    source: SizeSource, fills: bool, followed: Size | None
) -> None:
    rule = replace(SHRINKING, size_source=source, fills_area=fills)
    assert rule.followed(SIZES) == followed


def test_an_image_that_is_shown_smaller_is_followed_smaller() -> None:
    assert SHRINKING.followed([Size(128, 64)]) == Size(90, 45)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (Size(64, 512), None),
        (Size(63, 512), "63x512 is too small; each edge has at least 64"),
        (Size(64, 513), "64x513 is too long; at most 8 times"),
    ],
)
def test_shapes_that_the_pipeline_refuses_are_objected_to(size: Size, words: str | None) -> None:
    objection = REFERENCE_RULES["Flux2KleinPipeline"].objection(size)
    assert (objection is None) if words is None else (objection or "").startswith(words)


def test_every_rule_is_of_a_class_that_takes_pictures() -> None:
    for name, rule in REFERENCE_RULES.items():
        assert known_calls()[name].first_of("image", "input_images"), name
        assert 1 <= rule.max_count <= MAX_REFERENCE_COUNT
        assert rule.max_ratio == math.inf or rule.max_ratio > 1


@pytest.mark.parametrize("kind", ["QwenImageEditPipeline", "QwenImageEditPlusPipeline"])
@pytest.mark.parametrize(
    ("size", "followed"),
    [(Size(400, 300), Size(1184, 896)), (Size(1600, 900), Size(1376, 768))],
)
def test_qwen_edits_are_made_in_the_size_that_their_pipeline_computes(
    kind: str, size: Size, followed: Size
) -> None:
    assert REFERENCE_RULES[kind].followed([size]) == followed
