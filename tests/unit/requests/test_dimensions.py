"""Output sizes on a model's grid and within its limits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.image_size import Size
from darkroom_server.domain.jobs import Task
from darkroom_server.domain.models import Limits
from darkroom_server.domain.notices import NoticeReason
from darkroom_server.requests.dimensions import output_size
from darkroom_server.requests.image_requests import DimensionPolicy, ImageRequest
from tests.unit.example_models import FLUX_FILL, SDXL

ROUNDED, CLAMPED = NoticeReason.DIMENSION_ROUNDED, NoticeReason.DIMENSION_CLAMPED


def asked(width_px: int | None, height_px: int | None, **fields: object) -> ImageRequest:
    return ImageRequest(
        task=Task.TEXT_TO_IMAGE,
        prompt="a cat",
        width_px=width_px,
        height_px=height_px,
        **fields,
    )


@pytest.mark.parametrize(
    ("wanted", "made", "rounded"),
    [
        pytest.param((512, 256), Size(512, 256), [], id="on-the-grid"),
        pytest.param((None, None), Size(256, 256), [], id="the-models-default"),
        pytest.param((None, 128), Size(256, 128), [], id="half-default"),
        pytest.param((519, 263), Size(512, 256), ["width_px", "height_px"], id="both-rounded"),
        pytest.param((71, 64), Size(64, 64), ["width_px"], id="down-to-the-least"),
        pytest.param((1031, 64), Size(1024, 64), ["width_px"], id="down-to-the-most"),
        pytest.param((512, 1024), Size(512, 1024), [], id="as-many-pixels-as-allowed"),
    ],
)
def test_sizes_round_down(
    wanted: tuple[int | None, int | None], made: Size, rounded: list[str]
) -> None:
    size, notices = output_size(asked(*wanted), SDXL, None)
    assert size == made
    assert [(notice.reason, notice.field) for notice in notices] == [
        (ROUNDED, field) for field in rounded
    ]


@pytest.mark.parametrize(
    ("wanted", "blamed"),
    [
        pytest.param((63, 64), "width_px", id="rounds-below-the-least"),
        pytest.param((64, 56), "height_px", id="below-the-least"),
        pytest.param((1032, 64), "width_px", id="above-the-most"),
        pytest.param((1024, 520), "width_px", id="too-many-pixels"),
        pytest.param((None, 1032), "height_px", id="above-the-most-beside-a-default"),
    ],
)
def test_sizes_that_the_model_does_not_make(
    wanted: tuple[int | None, int | None], blamed: str
) -> None:
    with pytest.raises(InvalidParameter) as caught:
        output_size(asked(*wanted), SDXL, None)
    assert caught.value.field == blamed


def test_pixels_beside_a_default_blame_what_was_asked() -> None:
    model = replace(SDXL, limits=replace(SDXL.limits, max_pixel_count=256 * 256))
    with pytest.raises(InvalidParameter) as caught:
        output_size(asked(None, 512), model, None)
    assert caught.value.field == "height_px"


def test_reject_refuses_what_would_be_rounded() -> None:
    with pytest.raises(InvalidParameter, match="250 is not a multiple of 8"):
        output_size(asked(256, 250, dimension_policy=DimensionPolicy.REJECT), SDXL, None)


@pytest.mark.parametrize(
    ("source", "made", "reasons"),
    [
        pytest.param(Size(1000, 750), Size(992, 736), [ROUNDED, ROUNDED], id="rounded"),
        pytest.param(Size(512, 512), Size(512, 512), [], id="fits"),
        pytest.param(Size(2000, 1000), Size(1024, 512), [CLAMPED, CLAMPED], id="too-large"),
        pytest.param(Size(1000, 2000), Size(512, 1024), [CLAMPED, CLAMPED], id="too-high"),
        pytest.param(Size(32, 16), Size(128, 64), [CLAMPED, CLAMPED], id="too-small"),
        pytest.param(Size(1, 1), Size(64, 64), [CLAMPED, CLAMPED], id="one-pixel"),
        pytest.param(Size(4000, 10), Size(1024, 64), [CLAMPED, CLAMPED], id="a-strip"),
    ],
)
def test_a_fill_follows_its_image(source: Size, made: Size, reasons: list[NoticeReason]) -> None:
    size, notices = output_size(asked(None, None), FLUX_FILL, source)
    assert size == made
    assert [notice.reason for notice in notices] == reasons


def test_a_fill_follows_its_image_where_it_says_nothing_else() -> None:
    size, notices = output_size(asked(None, 256), FLUX_FILL, Size(500, 500))
    assert size == Size(496, 256)
    assert [(notice.reason, notice.field) for notice in notices] == [(ROUNDED, "width_px")]


def test_reject_refuses_an_image_off_the_grid() -> None:
    request = asked(None, None, dimension_policy=DimensionPolicy.REJECT)
    with pytest.raises(InvalidParameter) as caught:
        output_size(request, FLUX_FILL, Size(512, 500))
    assert caught.value.field == "height_px"


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    """Limits that can be met: the smallest square on the grid has few enough pixels."""
    multiple_px = draw(st.sampled_from([1, 8, 16, 64]))
    smallest = multiple_px * draw(st.integers(1, 8))
    largest = smallest + multiple_px * draw(st.integers(0, 64))
    return Limits(
        min_size_px=smallest,
        max_size_px=largest,
        size_multiple_px=multiple_px,
        max_pixel_count=draw(st.integers(smallest**2, largest**2)),
        max_step_count=10,
        max_image_count=1,
    )


@given(limits(), st.builds(Size, st.integers(1, 10_000), st.integers(1, 10_000)), st.none())
def test_any_image_finds_a_size_that_its_model_makes(
    allowed: Limits, source: Size, unset: None
) -> None:
    size, _ = output_size(asked(unset, unset), replace(FLUX_FILL, limits=allowed), source)
    for edge in (size.width_px, size.height_px):
        assert allowed.min_size_px <= edge <= allowed.max_size_px
        assert edge % allowed.size_multiple_px == 0
    assert size.width_px * size.height_px <= allowed.max_pixel_count
