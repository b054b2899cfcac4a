"""Whether a PNG carries all of its rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from darkroom_server.image_decoding import png
from tests.unit.image_decoding.pictures import chunk, encoded, gradient, hand_made_png


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@given(width_px=st.integers(1, 40), height_px=st.integers(1, 40))
def test_whole_files_of_every_kind(mode: str, width_px: int, height_px: int) -> None:
    assert png.has_all_rows(encoded(Image.new(mode, (width_px, height_px))))


@pytest.mark.parametrize(
    ("rows", "whole"),
    [
        pytest.param(bytes(4 * 5), True, id="all-rows"),
        pytest.param(bytes(4 * 5 - 1), False, id="a-byte-short"),
        pytest.param(bytes(3 * 5), False, id="a-row-short"),
        pytest.param(b"", False, id="no-rows"),
    ],
)
def test_rows_are_counted(rows: bytes, whole: bool) -> None:
    assert png.has_all_rows(hand_made_png(4, 4, rows)) is whole


@pytest.mark.parametrize(
    ("width_px", "height_px", "row_bytes"),
    [
        # Passes of an 8x8 square: 1x1, 1x1, 2x1, 2x2, 4x2, 4x4, 8x4, each row with a filter byte.
        pytest.param(8, 8, 2 + 2 + 3 + 2 * 3 + 2 * 5 + 4 * 5 + 4 * 9, id="8x8"),
        # A single pixel is in the first pass; the others are empty.
        pytest.param(1, 1, 2, id="1x1"),
        # 3x2: passes 1x1, none, none, 1x0, 2x1, 1x1... by columns 0, 2, 1 and row 1.
        pytest.param(3, 2, 2 + 2 + 2 + 4, id="3x2"),
    ],
)
def test_interlaced_rows_are_counted(width_px: int, height_px: int, row_bytes: int) -> None:
    whole = hand_made_png(width_px, height_px, bytes(row_bytes), interlaced=1)
    short = hand_made_png(width_px, height_px, bytes(row_bytes - 1), interlaced=1)
    assert png.has_all_rows(whole)
    assert not png.has_all_rows(short)


def test_image_data_may_come_in_many_pieces() -> None:
    whole = encoded(gradient())
    at = whole.index(b"IDAT") - 4
    length = int.from_bytes(whole[at : at + 4])
    data = whole[at + 8 : at + 8 + length]
    pieces = b"".join(chunk(b"IDAT", data[i : i + 3]) for i in range(0, length, 3))
    assert png.has_all_rows(whole[:at] + pieces + whole[at + 12 + length :])


def test_rows_that_inflate_to_more_than_a_piece() -> None:
    assert png.has_all_rows(hand_made_png(2047, 2000, bytes(2048 * 2000)))
    assert not png.has_all_rows(hand_made_png(2047, 2000, bytes(2048 * 2000 - 1)))


def test_damaged_data_is_an_error() -> None:
    whole = hand_made_png(64, 64, bytes(65 * 64))
    at = whole.index(b"IDAT") + 4
    with pytest.raises(png.InflateError):
        png.has_all_rows(whole[: at + 2] + b"\xff" * 8 + whole[at + 10 :])
