"""What images and masks of every unlucky kind come to, over a real channel."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image

from darkroom.v1 import image_pb2
from darkroom.v1.image_service_pb2 import FillRequest
from darkroom_server.image_decoding.rgb_profile import Chromaticities, rgb_profile
from tests.e2e.conftest import Service
from tests.e2e.refusals import TIMEOUT_S, refusal
from tests.unit.image_decoding.pictures import (
    chunk,
    encoded,
    gradient,
    hand_made_png,
    jpeg_of_scans,
)

SIZE = (64, 48)
PICTURE = gradient(*SIZE)
IMAGE = encoded(PICTURE)
WHITE = encoded(Image.new("L", SIZE, 255))
BLACK = encoded(Image.new("L", SIZE, 0))
TRANSPARENT = image_pb2.MASK_POLARITY_TRANSPARENT_REPAINTS
#: The fake model paints (seed + steps) mod 256 where it repaints.
PAINT = (9, 9, 9)


def fill(service: Service, image: bytes, mask: bytes, **fields: Any) -> list[Any]:
    request = FillRequest(
        prompt="a house",
        seed=5,
        step_count=4,
        image=image_pb2.ImageSource(content=image),
        mask=image_pb2.ImageSource(content=mask) if mask else None,
        **fields,
    )
    return [one.event for one in service.images.Fill(request, timeout=TIMEOUT_S)]


def warnings_of(events: list[Any]) -> list[tuple[str, str]]:
    """Reason and field of each."""
    return [(one.reason, one.field) for one in events[0].accepted.warnings]


def picture_of(events: list[Any]) -> Image.Image:
    content = b"".join(event.chunk.content for event in events if event.HasField("chunk"))
    picture = Image.open(io.BytesIO(content))
    [announced] = [event.image for event in events if event.HasField("image")]
    assert picture.size == (announced.width_px, announced.height_px)
    return picture.convert("RGB")


def text_bomb(kind: bytes, head: bytes) -> bytes:
    """A PNG whose text or colour profile unpacks to 64 MiB."""
    bomb = chunk(kind, head + zlib.compress(bytes(64 << 20)))
    return IMAGE[:33] + bomb + IMAGE[33:]


def vp8x(width_px: int, height_px: int) -> bytes:
    """A WebP that ends after a header with this canvas."""
    edges = b"".join(struct.pack("<I", edge - 1)[:3] for edge in (width_px, height_px))
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + edges
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def jpeg_header(width_px: int, height_px: int) -> bytes:
    """A JPEG whose header claims this size."""
    content = bytearray(encoded(PICTURE, "JPEG"))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", height_px, width_px)
    return bytes(content)


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'
UNDECODABLE = [
    pytest.param(b"just some text, no picture at all", id="text"),
    pytest.param(b"\0", id="one-byte"),
    pytest.param(SVG, id="svg"),
    pytest.param(encoded(PICTURE, "GIF"), id="gif"),
    pytest.param(encoded(PICTURE, "BMP"), id="bmp"),
    pytest.param(encoded(PICTURE, "TIFF"), id="tiff"),
    pytest.param(IMAGE[:8], id="png-signature-only"),
    pytest.param(IMAGE[: len(IMAGE) // 2], id="truncated-png"),
    pytest.param(hand_made_png(64, 48, bytes(65 * 20)), id="png-with-missing-rows"),
    pytest.param(IMAGE.replace(b"IHDR", b"IHDX"), id="png-without-header"),
    pytest.param(hand_made_png(0, 48, b""), id="png-without-width"),
    pytest.param(encoded(PICTURE, "JPEG")[:-200], id="truncated-jpeg"),
    pytest.param(b"\xff\xd8\xff", id="jpeg-signature-only"),
    pytest.param(encoded(PICTURE, "WEBP")[:-40], id="truncated-webp"),
    pytest.param(vp8x(64, 48), id="webp-without-picture"),
    pytest.param(jpeg_of_scans(3000), id="jpeg-of-3000-scans"),
    pytest.param(
        IMAGE[:33] + chunk(b"tEXt", b"a\0") * 100_000 + IMAGE[33:], id="png-of-100000-chunks"
    ),
]


@pytest.mark.parametrize("content", UNDECODABLE)
@pytest.mark.parametrize("field", ["image.content", "mask.content"])
def test_what_does_not_decode_is_refused(service: Service, content: bytes, field: str) -> None:
    files = (content, WHITE) if field == "image.content" else (IMAGE, content)
    refused = refusal(lambda: fill(service, *files))
    assert (refused.code, refused.reason, refused.field) == (
        "INVALID_ARGUMENT",
        "INVALID_IMAGE",
        field,
    )


@pytest.mark.parametrize(
    ("content", "reasons"),
    [
        pytest.param(text_bomb(b"zTXt", b"Comment\0\0"), [], id="zTXt"),
        pytest.param(text_bomb(b"iTXt", b"Comment\0\1\0\0\0"), [], id="iTXt"),
        pytest.param(text_bomb(b"iCCP", b"a\0\0"), ["PROFILE_IGNORED"], id="iCCP"),
    ],
)
def test_what_is_not_pixels_is_not_unpacked(
    service: Service, content: bytes, reasons: list[str]
) -> None:
    events = fill(service, content, WHITE)
    assert [reason for reason, _ in warnings_of(events)] == reasons


BOMBS = [
    pytest.param(hand_made_png(100_000, 100_000, b""), id="header-of-10-gigapixels"),
    pytest.param(hand_made_png(2**31 - 1, 2**31 - 1, b""), id="largest-png-header"),
    pytest.param(
        hand_made_png(20_000, 20_000, bytes(20_000 * 2_501), depth=1), id="400-megapixels-of-1-bit"
    ),
    pytest.param(jpeg_header(65_500, 65_500), id="largest-jpeg-header"),
    pytest.param(vp8x(16_383, 16_383), id="largest-webp"),
    pytest.param(vp8x(1 << 24, 255), id="widest-webp-canvas"),
]


@pytest.mark.parametrize("content", BOMBS)
@pytest.mark.parametrize("field", ["image.content", "mask.content"])
def test_a_bomb_is_told_by_its_header(service: Service, content: bytes, field: str) -> None:
    assert len(content) < 100_000
    files = (content, WHITE) if field == "image.content" else (IMAGE, content)
    refused = refusal(lambda: fill(service, *files))
    assert (refused.code, refused.reason, refused.field) == (
        "INVALID_ARGUMENT",
        "IMAGE_TOO_LARGE",
        field,
    )


@pytest.mark.parametrize(
    ("files", "field"),
    [
        pytest.param((b"", WHITE), "image.content", id="no-image"),
        pytest.param((IMAGE, b""), "mask.content", id="no-mask"),
        pytest.param((b"", b""), "image.content", id="neither"),
    ],
)
def test_a_missing_file_is_named(service: Service, files: tuple[bytes, bytes], field: str) -> None:
    refused = refusal(lambda: fill(service, *files))
    assert (refused.code, refused.reason, refused.field) == (
        "INVALID_ARGUMENT",
        "INVALID_PARAMETER",
        field,
    )


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan"), float("inf"), 0.0, 0.1])
def test_a_strength_that_leaves_nothing_to_do_is_refused(service: Service, strength: float) -> None:
    refused = refusal(lambda: fill(service, IMAGE, WHITE, strength=strength))
    assert (refused.reason, refused.field) == ("INVALID_PARAMETER", "strength")


def test_a_model_that_does_not_fill(service: Service) -> None:
    refused = refusal(lambda: fill(service, IMAGE, WHITE, model="narrow"))
    assert (refused.code, refused.reason, refused.field) == (
        "INVALID_ARGUMENT",
        "WRONG_TASK",
        "model",
    )


def animation(format_: str) -> bytes:
    second = Image.new("RGB", SIZE, "red")
    return encoded(PICTURE, format_, save_all=True, append_images=[second], duration=100)


def lying() -> bytes:
    """A JPEG that its EXIF turns upright: 64x48 as seen, 48x64 as stored."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(PICTURE.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=100)


def lying_told_late() -> bytes:
    """The same as a PNG whose EXIF stands after its pixels."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = encoded(PICTURE.transpose(Image.Transpose.ROTATE_90))
    told = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    return stored[:-12] + told + stored[-12:]


ADOBE = rgb_profile(
    1 / 2.19921875, Chromaticities(0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
)
DEEP = hand_made_png(64, 48, (b"\0" + b"\x80\xff" * 64) * 48, depth=16)
CONVERTED = [
    pytest.param(IMAGE, [], id="rgb"),
    pytest.param(encoded(PICTURE.convert("RGBA")), [], id="alpha-that-hides-nothing"),
    pytest.param(encoded(Image.new("RGBA", SIZE, (9, 8, 7, 0))), ["ALPHA_FLATTENED"], id="alpha"),
    pytest.param(encoded(PICTURE.convert("CMYK"), "JPEG"), ["COLOR_CONVERTED"], id="cmyk-jpeg"),
    pytest.param(encoded(PICTURE.convert("L"), "JPEG"), ["COLOR_CONVERTED"], id="grey-jpeg"),
    pytest.param(DEEP, ["DEPTH_REDUCED", "COLOR_CONVERTED"], id="16-bit"),
    pytest.param(encoded(PICTURE.convert("P")), ["COLOR_CONVERTED"], id="palette"),
    pytest.param(encoded(PICTURE.convert("1")), ["COLOR_CONVERTED"], id="1-bit"),
    pytest.param(lying(), ["IMAGE_ROTATED"], id="exif-rotation"),
    pytest.param(lying_told_late(), ["IMAGE_ROTATED"], id="exif-rotation-after-the-pixels"),
    pytest.param(encoded(PICTURE, icc_profile=ADOBE), ["PROFILE_CONVERTED"], id="adobe-rgb"),
    pytest.param(encoded(PICTURE, icc_profile=b"junk"), ["PROFILE_IGNORED"], id="broken-profile"),
    pytest.param(animation("WEBP"), ["FIRST_FRAME_USED"], id="animated-webp"),
    pytest.param(animation("PNG"), ["FIRST_FRAME_USED"], id="apng"),
]


@pytest.mark.parametrize(("image", "reasons"), CONVERTED)
def test_an_unusual_image_is_converted_and_that_is_said(
    service: Service, image: bytes, reasons: list[str]
) -> None:
    events = fill(service, image, WHITE)
    assert warnings_of(events) == [(reason, "image.content") for reason in reasons]
    assert picture_of(events).getcolors() == [(64 * 48, PAINT)]
    assert picture_of(events).size == SIZE


@pytest.mark.parametrize(("mask", "reasons"), CONVERTED)
def test_a_mask_of_any_kind_is_read_by_its_lightness(
    service: Service, mask: bytes, reasons: list[str]
) -> None:
    told = {"FIRST_FRAME_USED", "IMAGE_ROTATED"}
    expected = [(reason, "mask.content") for reason in reasons if reason in told]
    if "ALPHA_FLATTENED" in reasons:
        expected = [("ALPHA_IGNORED", "mask.content")]
    events = fill(service, IMAGE, mask)
    if picture_of(events).tobytes() == PICTURE.tobytes():
        expected.append(("MASK_REPAINTS_NOTHING", "mask.content"))
    assert warnings_of(events) == expected
    assert picture_of(events).size == SIZE


def test_transparency_shows_white_where_it_is_kept(service: Service) -> None:
    clear = encoded(Image.new("RGBA", SIZE, (9, 8, 7, 0)))
    assert picture_of(fill(service, clear, BLACK)).getcolors() == [(64 * 48, (255, 255, 255))]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_what_is_kept_of_another_colour_space_is_srgb(service: Service, form: str) -> None:
    settings = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    red = Image.new("RGB", SIZE, (200, 30, 30))
    image = encoded(red, form, icc_profile=ADOBE, **settings.get(form, {}))
    kept = picture_of(fill(service, image, BLACK)).getpixel((5, 5))
    assert kept == pytest.approx((233, 24, 24), abs=1)


@pytest.mark.parametrize("photograph", [lying(), lying_told_late()], ids=["jpeg", "late"])
def test_a_rotated_photograph_is_kept_upright(service: Service, photograph: bytes) -> None:
    kept = picture_of(fill(service, photograph, BLACK))
    dark, light = kept.getpixel((1, 24)), kept.getpixel((62, 24))
    assert isinstance(dark, tuple)
    assert isinstance(light, tuple)
    # Red grows to the right in the picture as it is meant to be seen.
    assert dark[0] < 30 < 220 < light[0]


def test_a_mask_of_another_size_is_scaled(service: Service) -> None:
    half = Image.new("L", (8, 6), 0)
    half.paste(255, (0, 0, 4, 6))
    events = fill(service, IMAGE, encoded(half))
    assert warnings_of(events) == [("MASK_RESIZED", "mask.content")]
    made = picture_of(events)
    assert made.crop((0, 0, 32, 48)).getcolors() == [(32 * 48, PAINT)]
    assert made.crop((32, 0, 64, 48)).tobytes() == PICTURE.crop((32, 0, 64, 48)).tobytes()


@pytest.mark.parametrize(
    ("mask", "polarity", "repainted"),
    [
        pytest.param(WHITE, image_pb2.MASK_POLARITY_UNSPECIFIED, True, id="white-by-default"),
        pytest.param(WHITE, image_pb2.MASK_POLARITY_BLACK_REPAINTS, False, id="white-inverted"),
        pytest.param(BLACK, image_pb2.MASK_POLARITY_WHITE_REPAINTS, False, id="black"),
        pytest.param(BLACK, image_pb2.MASK_POLARITY_BLACK_REPAINTS, True, id="black-inverted"),
        pytest.param(
            encoded(Image.new("LA", SIZE, (255, 255))), TRANSPARENT, False, id="opaque-white"
        ),
        pytest.param(
            encoded(Image.new("LA", SIZE, (0, 0))), TRANSPARENT, True, id="transparent-black"
        ),
    ],
)
def test_the_polarity_decides(
    service: Service, mask: bytes, polarity: image_pb2.MaskPolarity, repainted: bool
) -> None:
    made = picture_of(fill(service, IMAGE, mask, mask_polarity=polarity))
    assert (made.getcolors() == [(64 * 48, PAINT)]) is repainted
    assert (made.tobytes() == PICTURE.tobytes()) is not repainted


@pytest.mark.parametrize(
    ("files", "field"),
    [
        pytest.param((IMAGE, WHITE), "mask.content", id="mask-without-alpha"),
        pytest.param((IMAGE, b""), "image.content", id="image-without-alpha-as-its-own-mask"),
    ],
)
def test_a_mask_by_transparency_needs_some(
    service: Service, files: tuple[bytes, bytes], field: str
) -> None:
    refused = refusal(lambda: fill(service, *files, mask_polarity=TRANSPARENT))
    assert (refused.reason, refused.field) == ("INVALID_IMAGE", field)


def test_an_unknown_polarity_is_refused(service: Service) -> None:
    refused = refusal(lambda: fill(service, IMAGE, WHITE, mask_polarity=99))
    assert (refused.reason, refused.field) == ("INVALID_PARAMETER", "mask_polarity")


@pytest.mark.parametrize(
    ("size", "reason", "made"),
    [
        pytest.param((71, 50), "DIMENSION_ROUNDED", (64, 48), id="off-the-grid"),
        pytest.param((4, 4), "DIMENSION_CLAMPED", (16, 16), id="smaller-than-the-model-makes"),
        pytest.param((2048, 1024), "DIMENSION_CLAMPED", (1024, 512), id="larger"),
        pytest.param((4000, 2), "DIMENSION_CLAMPED", (1024, 16), id="a-thread"),
    ],
)
def test_an_image_of_a_size_the_model_does_not_make(
    service: Service, size: tuple[int, int], reason: str, made: tuple[int, int]
) -> None:
    image, mask = encoded(Image.new("RGB", size)), encoded(Image.new("L", size, 255))
    events = fill(service, image, mask)
    assert warnings_of(events) == [
        (reason, "width_px"),
        (reason, "height_px"),
        ("IMAGE_RESIZED", "image.content"),
    ]
    assert picture_of(events).size == made
    strict = image_pb2.DIMENSION_POLICY_REJECT
    refused = refusal(lambda: fill(service, image, mask, dimension_policy=strict))
    assert (refused.reason, refused.field) == ("INVALID_PARAMETER", "width_px")
