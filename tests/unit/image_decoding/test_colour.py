"""Colours of other spaces than sRGB."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from darkroom_server.domain.notices import NoticeReason
from darkroom_server.image_decoding.images import ImageLimits, decode, to_rgb
from darkroom_server.image_decoding.rgb_profile import (
    SRGB_CHROMATICITIES,
    Chromaticities,
    rgb_profile,
)
from tests.unit.image_decoding.pictures import chunk, encoded, gradient

RED = (200, 30, 30)
ADOBE_GAMMA = 1 / 2.19921875
ADOBE_CHROMATICITIES = Chromaticities(0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
ADOBE = rgb_profile(ADOBE_GAMMA, ADOBE_CHROMATICITIES)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
CONVERTED, IGNORED = NoticeReason.PROFILE_CONVERTED, NoticeReason.PROFILE_IGNORED


def profile_of(kind: bytes, space: bytes, connection: bytes, tag: bytes, content: bytes) -> bytes:
    """A profile of version 2 with a single tag."""
    head = struct.pack(">I4sI", 144 + len(content), b"lcms", 0x02400000) + kind + space + connection
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    table = struct.pack(">I4sII", 1, tag, 144, len(content))
    return head.ljust(128, b"\0") + table + content


def ink_profile() -> bytes:
    """For printing: all ink together leaves a quarter of the paper's lightness."""
    corners = np.indices((2,) * 4).reshape(4, -1).T
    lightness = (1 - corners.mean(axis=1) * 0.75) * 0xFF00
    lab = np.stack([lightness, np.full(16, 0x8000), np.full(16, 0x8000)], axis=1)
    matrix = b"".join(struct.pack(">i", 65536 * (i % 4 == 0)) for i in range(9))
    line = struct.pack(">HH", 0, 65535)
    table = b"mft2" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + struct.pack(">HH", 2, 2)
    table += line * 4 + lab.astype(">u2").tobytes() + line * 3
    return profile_of(b"prtr", b"CMYK", b"Lab ", b"A2B0", table)


#: Numbers are as light is: a gamma of 1.
LINEAR_GREY = profile_of(b"mntr", b"GRAY", b"XYZ ", b"kTRC", b"curv" + bytes(8))
INK = ink_profile()


def read(content: bytes) -> tuple[tuple[int, ...], list[NoticeReason]]:
    """The colour of the file's corner, and what was said of it."""
    picture = decode(content, "image.content", ImageLimits())
    rgb, notices = to_rgb(picture, "image.content", flatten=False)
    colour = rgb.getpixel((1, 1))
    assert isinstance(colour, tuple)
    return colour, [notice.reason for notice in notices]


FORMS = [
    pytest.param("PNG", "RGB", {}, id="png"),
    pytest.param("PNG", "RGBA", {}, id="png-with-opacity"),
    pytest.param("PNG", "P", {}, id="png-with-a-palette"),
    pytest.param("JPEG", "RGB", {"quality": 100, "subsampling": 0}, id="jpeg"),
    pytest.param("WEBP", "RGB", {"lossless": True}, id="webp"),
    pytest.param("WEBP", "RGBA", {"lossless": True}, id="webp-with-opacity"),
]


@pytest.mark.parametrize(("format_", "mode", "settings"), FORMS)
def test_adobe_rgb_becomes_srgb(format_: str, mode: str, settings: dict[str, object]) -> None:
    picture = Image.new("RGB", (16, 16), RED)
    picture = picture.quantize() if mode == "P" else picture.convert(mode)
    colour, reasons = read(encoded(picture, format_, icc_profile=ADOBE, **settings))
    assert colour == pytest.approx((233, 24, 24), abs=1)
    assert CONVERTED in reasons


@pytest.mark.parametrize(("format_", "mode", "settings"), FORMS)
def test_srgb_by_its_profile_stays_to_the_bit(
    format_: str, mode: str, settings: dict[str, object]
) -> None:
    picture = Image.new("RGB", (16, 16), RED)
    picture = picture.quantize() if mode == "P" else picture.convert(mode)
    plain, _ = read(encoded(picture, format_, **settings))
    colour, reasons = read(encoded(picture, format_, icc_profile=SRGB, **settings))
    assert colour == plain
    assert CONVERTED not in reasons


def test_16_bits_a_channel_are_converted_too() -> None:
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    rows = (b"\0" + struct.pack(">6H", *[value * 257 for value in RED * 2])) * 2
    body = zlib.compress(rows)
    packed = zlib.compress(ADOBE)
    parts = [(b"IHDR", header), (b"iCCP", b"a\0\0" + packed), (b"IDAT", body), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
    assert read(content) == ((233, 24, 24), [NoticeReason.DEPTH_REDUCED, CONVERTED])


def test_transparent_pixels_stay_so_and_the_mask_of_an_image_is_no_colour() -> None:
    picture = Image.new("RGBA", (16, 16), (*RED, 128))
    content = encoded(picture, icc_profile=ADOBE)
    decoded = decode(content, "image.content", ImageLimits())
    flat, _ = to_rgb(decoded, "image.content", flatten=True)
    assert flat.getpixel((1, 1)) == pytest.approx((244, 139, 139), abs=1)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_greys_have_profiles_of_their_own(mode: str) -> None:
    picture = Image.new("L", (16, 16), 55).convert(mode)
    colour, reasons = read(encoded(picture, icc_profile=LINEAR_GREY))
    assert colour == pytest.approx((128, 128, 128), abs=1)
    assert reasons == [NoticeReason.COLOR_CONVERTED, CONVERTED]


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_greys_may_have_a_profile_of_colours(mode: str) -> None:
    picture = Image.new("L", (16, 16), 255).convert(mode)
    colour, reasons = read(encoded(picture, icc_profile=ADOBE))
    assert colour == (255, 255, 255)
    assert reasons == [NoticeReason.COLOR_CONVERTED, CONVERTED]


def test_ink_has_profiles_of_its_own() -> None:
    picture = Image.new("CMYK", (16, 16), (255, 255, 255, 255))
    colour, reasons = read(encoded(picture, "JPEG", quality=100, icc_profile=INK))
    # A quarter of full lightness, 25 of 100.
    assert colour == pytest.approx((59, 59, 59), abs=3)
    assert reasons == [NoticeReason.COLOR_CONVERTED, CONVERTED]


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        pytest.param("RGB", b"junk" * 50, id="no-profile-at-all"),
        pytest.param("RGB", ADOBE[:300], id="cut"),
        pytest.param("RGB", ADOBE[:128] + bytes(len(ADOBE) - 128), id="without-its-tags"),
        pytest.param("RGB", INK, id="of-ink"),
        pytest.param("RGB", LINEAR_GREY, id="of-greys"),
        pytest.param("RGB", bytes(5 << 20), id="too-large"),
    ],
)
@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
def test_a_profile_that_cannot_be_used_is_told_of(mode: str, profile: bytes, format_: str) -> None:
    picture = Image.new(mode, (16, 16), RED)
    plain, _ = read(encoded(picture, format_))
    assert read(encoded(picture, format_, icc_profile=profile)) == (plain, [IGNORED])


def numbers(gamma: float | None, points: Chromaticities | None, *, srgb: bool = False) -> bytes:
    """A PNG of red, whose colour space is given by numbers."""
    picture = encoded(Image.new("RGB", (16, 16), RED))
    chunks = b"" if not srgb else chunk(b"sRGB", b"\0")
    if gamma is not None:
        chunks += chunk(b"gAMA", struct.pack(">I", round(gamma * 100_000)))
    if points is not None:
        values = [getattr(points, name) for name in Chromaticities.__dataclass_fields__]
        chunks += chunk(b"cHRM", struct.pack(">8I", *(round(v * 100_000) for v in values)))
    return picture[:33] + chunks + picture[33:]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(numbers(ADOBE_GAMMA, ADOBE_CHROMATICITIES), (233, 24, 24), id="adobe"),
        pytest.param(numbers(1.0, None), (229, 96, 96), id="linear"),
    ],
)
def test_numbers_of_a_png_are_as_good_as_a_profile(
    content: bytes, expected: tuple[int, int, int]
) -> None:
    colour, reasons = read(content)
    assert colour == pytest.approx(expected, abs=1)
    assert reasons == [CONVERTED]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(numbers(0.45455, None), id="the-usual-gamma"),
        pytest.param(numbers(0.45455, SRGB_CHROMATICITIES), id="srgb-by-numbers"),
        pytest.param(numbers(1.0, ADOBE_CHROMATICITIES, srgb=True), id="said-to-be-srgb"),
    ],
)
def test_numbers_that_mean_srgb_change_nothing(content: bytes) -> None:
    assert read(content) == (RED, [])


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(numbers(0.0, None), id="gamma-0"),
        pytest.param(numbers(4000.0, None), id="gamma-beyond-sense"),
        pytest.param(numbers(1.0, Chromaticities(*[0.0] * 8)), id="nowhere"),
        pytest.param(numbers(1.0, Chromaticities(*[0.3] * 8)), id="all-at-one-point"),
    ],
)
def test_numbers_that_make_no_space_are_told_of(content: bytes) -> None:
    assert read(content) == (RED, [IGNORED])


def test_pictures_of_many_colours_are_converted_pixel_by_pixel() -> None:
    content = encoded(gradient(), icc_profile=ADOBE)
    picture = decode(content, "image.content", ImageLimits())
    rgb, _ = to_rgb(picture, "image.content", flatten=False)
    assert rgb.size == gradient().size
    assert (np.asarray(rgb)[0, -1] == [255, 0, 0]).all()
