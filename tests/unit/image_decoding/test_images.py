"""Decoding what callers send: what is refused, and what is converted and how that is said."""

from __future__ import annotations

import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from darkroom_server.domain.errors import ImageTooLarge, InvalidImage
from darkroom_server.domain.image_size import Size
from darkroom_server.domain.notices import NoticeReason
from darkroom_server.image_decoding.images import ImageLimits, decode, to_rgb, upright_size
from tests.unit.image_decoding.pictures import encoded, gradient, hand_made_png

FIELD = "image.content"
LIMITS = ImageLimits(max_bytes=1_000_000, max_pixel_count=10_000)
ORIENTATION = 0x0112


def rgb_of(content: bytes, *, flatten: bool = True) -> tuple[Image.Image, list[NoticeReason]]:
    picture = decode(content, FIELD, LIMITS)
    rgb, notices = to_rgb(picture, FIELD, flatten=flatten)
    every = picture.notices + notices
    assert all(notice.field == FIELD for notice in every)
    return rgb, [notice.reason for notice in every]


def rotated(orientation: int, format_: str) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(gradient(), format_, exif=exif.tobytes())


def header_png(width_px: int, height_px: int) -> bytes:
    return hand_made_png(width_px, height_px, b"")


BROKEN = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"hello", id="text"),
    pytest.param(encoded(gradient(), "GIF"), id="gif"),
    pytest.param(encoded(gradient(), "BMP"), id="bmp"),
    pytest.param(encoded(gradient(), "TIFF"), id="tiff"),
    pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n", id="postscript"),
    pytest.param(encoded(gradient())[:8], id="png-signature-alone"),
    pytest.param(encoded(gradient())[:20], id="png-cut-in-its-header"),
    pytest.param(encoded(gradient())[:-30], id="png-cut-in-its-data"),
    pytest.param(hand_made_png(4, 4, bytes(3 * 5)), id="png-that-ends-early-but-cleanly"),
    pytest.param(hand_made_png(4, 4, b""), id="png-without-rows"),
    pytest.param(b"\xff\xd8\xff\xe0", id="jpeg-signature-alone"),
    pytest.param(encoded(gradient(), "JPEG")[:-200], id="jpeg-cut"),
    pytest.param(encoded(gradient(), "WEBP")[:-40], id="webp-cut"),
    pytest.param(b"RIFF\x00\x00\x00\x00WEBP", id="webp-signature-alone"),
]


@pytest.mark.parametrize("content", BROKEN)
def test_what_does_not_decode_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidImage) as caught:
        decode(content, FIELD, LIMITS)
    assert caught.value.field == FIELD


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
@settings(max_examples=150)
@given(data=st.data())
def test_no_damage_raises_anything_else(format_: str, data: st.DataObject) -> None:
    whole = rotated(6, format_)
    start = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.integers(start, min(len(whole), start + 64)))
    damaged = whole[:start] + data.draw(st.binary(max_size=64)) + whole[end:]
    with suppress(InvalidImage, ImageTooLarge):
        upright_size(damaged, FIELD, LIMITS)
        to_rgb(decode(damaged, FIELD, LIMITS), FIELD, flatten=True)


@pytest.mark.parametrize("read", [decode, upright_size])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(bytes(1_000_001), id="a-byte-too-many"),
        pytest.param(header_png(101, 100), id="a-row-of-pixels-too-many"),
        pytest.param(header_png(10_000, 10_000), id="pillow-would-warn"),
        pytest.param(header_png(100_000, 100_000), id="decompression-bomb"),
        pytest.param(encoded(Image.new("1", (20_000, 5_000)), "PNG"), id="a-true-bomb"),
        pytest.param(encoded(gradient(101, 100), "JPEG"), id="jpeg"),
        pytest.param(encoded(gradient(101, 100), "WEBP"), id="webp"),
    ],
)
def test_too_large_is_told_by_the_header(read, content: bytes) -> None:
    with pytest.raises(ImageTooLarge) as caught:
        read(content, FIELD, LIMITS)
    assert caught.value.field == FIELD


def test_as_many_pixels_as_are_allowed() -> None:
    assert decode(encoded(gradient(100, 100)), FIELD, LIMITS).size == Size(100, 100)


@pytest.mark.parametrize(
    ("format_", "tolerance"),
    [
        pytest.param("PNG", 0, id="png"),
        pytest.param("JPEG", 24, id="jpeg"),
        pytest.param("WEBP", 24, id="webp"),
    ],
)
def test_plain_images_pass_unchanged(format_: str, tolerance: int) -> None:
    rgb, reasons = rgb_of(encoded(gradient(), format_))
    difference = np.asarray(rgb).astype(int) - np.asarray(gradient())
    assert np.abs(difference).max() <= tolerance
    assert reasons == []


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_orientation_is_applied(orientation: int, format_: str) -> None:
    content = rotated(orientation, format_)
    picture = decode(content, FIELD, LIMITS)
    assert picture.size == (Size(16, 24) if orientation >= 5 else Size(24, 16))
    assert upright_size(content, FIELD, LIMITS) == picture.size
    assert [notice.reason for notice in picture.notices] == [NoticeReason.IMAGE_ROTATED]


#: For a stored picture whose red grows to the right and green downwards: the corner, as seen,
#: where both are least.
DARK_CORNERS = {
    1: (0, 0), 2: (-1, 0), 3: (-1, -1), 4: (0, -1), 5: (0, 0), 6: (-1, 0), 7: (-1, -1), 8: (0, -1),
}  # fmt: skip


@pytest.mark.parametrize(("orientation", "corner"), DARK_CORNERS.items())
def test_the_right_corner_is_up(orientation: int, corner: tuple[int, int]) -> None:
    rgb, _ = rgb_of(rotated(orientation, "PNG"))
    column, row = corner
    assert np.asarray(rgb)[row, column].tolist() == [0, 0, 0]


@pytest.mark.parametrize("value", [0, 9, 200])
def test_an_orientation_that_does_not_exist_is_upright(value: int) -> None:
    content = rotated(value, "JPEG")
    assert decode(content, FIELD, LIMITS).notices == ()
    assert upright_size(content, FIELD, LIMITS) == Size(24, 16)


def test_unreadable_exif_is_upright() -> None:
    content = encoded(gradient(), "JPEG", exif=b"Exif\x00\x00nonsense")
    assert decode(content, FIELD, LIMITS).notices == ()


def with_alpha(mode: str) -> bytes:
    picture = gradient().convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return encoded(picture.convert(mode))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_on_white(mode: str) -> None:
    rgb, reasons = rgb_of(with_alpha(mode))
    assert rgb.getpixel((3, 0)) == pytest.approx((255, 255, 255), abs=8)
    assert NoticeReason.ALPHA_FLATTENED in reasons


def test_alpha_that_hides_nothing_is_not_mentioned() -> None:
    rgb, reasons = rgb_of(encoded(gradient().convert("RGBA")))
    assert (np.asarray(rgb) == np.asarray(gradient())).all()
    assert reasons == []


def test_colours_under_transparency_stay_where_it_is_the_mask() -> None:
    rgb, reasons = rgb_of(with_alpha("RGBA"), flatten=False)
    assert (np.asarray(rgb) == np.asarray(gradient())).all()
    assert reasons == []


def test_a_transparent_colour_of_a_palette_counts_as_alpha() -> None:
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([10, 20, 30, 200, 100, 50])
    rgb, reasons = rgb_of(encoded(picture, transparency=0))
    assert rgb.getpixel((0, 0)) == (255, 255, 255)
    assert NoticeReason.ALPHA_FLATTENED in reasons


@pytest.mark.parametrize(
    ("content", "expected", "tolerance"),
    [
        pytest.param(encoded(Image.new("L", (4, 4), 77)), (77, 77, 77), 0, id="greyscale"),
        pytest.param(encoded(Image.new("1", (4, 4), 1)), (255, 255, 255), 0, id="1-bit"),
        pytest.param(
            encoded(Image.new("RGB", (4, 4), (9, 200, 30)).quantize()),
            (9, 200, 30),
            0,
            id="palette",
        ),
        pytest.param(
            encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"),
            (255, 0, 0),
            4,
            id="cmyk",
        ),
    ],
)
def test_other_colours_become_rgb(
    content: bytes, expected: tuple[int, int, int], tolerance: int
) -> None:
    rgb, reasons = rgb_of(content)
    assert rgb.getpixel((1, 1)) == pytest.approx(expected, abs=tolerance)
    assert reasons == [NoticeReason.COLOR_CONVERTED]


def test_16_bit_greyscale_keeps_its_high_bytes() -> None:
    deep = Image.fromarray(np.array([[0, 255, 256], [0x8000, 0xABCD, 0xFFFF]], np.uint16))
    rgb, reasons = rgb_of(encoded(deep))
    assert np.asarray(rgb)[..., 0].tolist() == [[0, 0, 1], [0x80, 0xAB, 0xFF]]
    assert set(reasons) == {NoticeReason.DEPTH_REDUCED, NoticeReason.COLOR_CONVERTED}


def test_16_bit_colour_keeps_its_high_bytes() -> None:
    row = b"\x00" + bytes.fromhex("1234 5678 9abc")
    rgb, reasons = rgb_of(hand_made_png(1, 1, row, depth=16, color_type=2))
    assert rgb.getpixel((0, 0)) == (0x12, 0x56, 0x9A)
    assert reasons == [NoticeReason.DEPTH_REDUCED]


@pytest.mark.parametrize("format_", ["PNG", "WEBP"])
def test_the_first_frame_of_an_animation(format_: str) -> None:
    red, blue = (Image.new("RGB", (8, 8), color) for color in ("red", "blue"))
    content = encoded(
        red, format_, save_all=True, append_images=[blue], duration=100, lossless=True
    )
    rgb, reasons = rgb_of(content)
    assert rgb.getpixel((4, 4)) == (255, 0, 0)
    assert reasons == [NoticeReason.FIRST_FRAME_USED]


def test_a_photograph_with_a_second_picture_inside_is_no_animation() -> None:
    file = io.BytesIO()
    gradient().save(file, "MPO", save_all=True, append_images=[gradient(8, 8)])
    _, reasons = rgb_of(file.getvalue())
    assert reasons == []
