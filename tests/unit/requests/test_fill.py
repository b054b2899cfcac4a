"""The pixels of a Fill: polarity, threshold and size of its mask, and its image."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from darkroom_server.domain.errors import InvalidImage
from darkroom_server.domain.image_size import Size
from darkroom_server.domain.jobs import FillSpec, Pixels
from darkroom_server.domain.notices import NoticeReason
from darkroom_server.image_decoding.images import ImageLimits
from darkroom_server.requests.fill import decode_fill
from darkroom_server.requests.image_requests import FillInput, MaskPolarity
from tests.unit.image_decoding.pictures import encoded, gradient

SIZE = Size(24, 16)
WHITE, BLACK, TRANSPARENT = MaskPolarity


def spec_of(
    fill: FillInput, size: Size = SIZE, strength: float = 1.0
) -> tuple[FillSpec, list[tuple[NoticeReason, str]]]:
    spec, notices = decode_fill(
        fill, size, strength=strength, preserve_unmasked=True, limits=ImageLimits()
    )
    return spec, [(notice.reason, notice.field) for notice in notices]


def fill_with(mask: bytes | None, polarity: MaskPolarity = WHITE) -> FillInput:
    return FillInput(image=encoded(gradient()), mask=mask, mask_polarity=polarity)


def array_of(pixels: Pixels) -> np.ndarray:
    shape = (pixels.height_px, pixels.width_px, pixels.channel_count)
    return np.frombuffer(pixels.data, np.uint8).reshape(shape).squeeze()


def grey_steps() -> Image.Image:
    """Columns of 0, 126, 127, 128, 129 and 255, each 4 wide."""
    row = np.repeat(np.array([0, 126, 127, 128, 129, 255], np.uint8), 4)
    return Image.fromarray(np.tile(row, (16, 1)))


REPAINTED = [0, 0, 0, 255, 255, 255]
KEPT = [255, 255, 255, 0, 0, 0]


@pytest.mark.parametrize(
    ("mask", "polarity", "expected"),
    [
        pytest.param(grey_steps(), WHITE, REPAINTED, id="white-repaints"),
        pytest.param(grey_steps(), BLACK, KEPT, id="black-repaints"),
        pytest.param(grey_steps().convert("RGB"), WHITE, REPAINTED, id="rgb"),
        pytest.param(grey_steps().convert("RGBA"), WHITE, REPAINTED, id="rgba"),
        pytest.param(grey_steps().convert("P"), WHITE, REPAINTED, id="palette"),
        pytest.param(
            Image.fromarray(np.asarray(grey_steps()).astype(np.uint16) * 257),
            WHITE,
            REPAINTED,
            id="16-bit",
        ),
    ],
)
def test_a_mask_is_cut_at_half_of_full_scale(
    mask: Image.Image, polarity: MaskPolarity, expected: list[int]
) -> None:
    spec, notices = spec_of(fill_with(encoded(mask), polarity))
    assert (array_of(spec.mask) == np.repeat(expected, 4)).all()
    assert notices == []


def test_a_1_bit_mask() -> None:
    spec, _ = spec_of(fill_with(encoded(Image.new("1", (24, 16), 1))))
    assert set(spec.mask.data) == {255}


def test_the_noise_of_a_jpeg_mask_does_no_harm() -> None:
    mask = Image.new("L", (24, 16), 0)
    mask.paste(255, (8, 0, 24, 16))
    spec, _ = spec_of(fill_with(encoded(mask, "JPEG", quality=50)))
    assert (array_of(spec.mask) == np.asarray(mask)).all()


def see_through() -> Image.Image:
    """Opaque, all but transparent, and transparent columns, each 8 wide; black throughout."""
    picture = Image.new("RGBA", (24, 16), (0, 0, 0, 255))
    picture.paste((0, 0, 0, 1), (8, 0, 16, 16))
    picture.paste((0, 0, 0, 0), (16, 0, 24, 16))
    return picture


def test_only_what_is_fully_transparent_is_repainted() -> None:
    spec, notices = spec_of(fill_with(encoded(see_through()), TRANSPARENT))
    assert (array_of(spec.mask) == np.repeat([0, 0, 255], 8)).all()
    assert notices == []


def test_the_images_own_transparency_is_the_mask_and_its_colours_stay() -> None:
    image = gradient().convert("RGBA")
    image.putalpha(see_through().getchannel("A"))
    fill = FillInput(image=encoded(image), mask=None, mask_polarity=TRANSPARENT)
    spec, notices = spec_of(fill)
    assert (array_of(spec.mask) == np.repeat([0, 0, 255], 8)).all()
    assert (array_of(spec.image) == np.asarray(gradient())).all()
    assert notices == []


@pytest.mark.parametrize(
    ("fill", "blamed"),
    [
        pytest.param(fill_with(encoded(gradient()), TRANSPARENT), "mask.content", id="mask"),
        pytest.param(fill_with(None, TRANSPARENT), "image.content", id="image"),
    ],
)
def test_a_mask_of_transparency_needs_some(fill: FillInput, blamed: str) -> None:
    with pytest.raises(InvalidImage) as caught:
        spec_of(fill)
    assert caught.value.field == blamed


@pytest.mark.parametrize("alpha", [1, 255])
def test_an_image_that_is_opaque_is_no_mask_of_its_own(alpha: int) -> None:
    image = encoded(Image.new("RGBA", (24, 16), (9, 9, 9, alpha)))
    with pytest.raises(InvalidImage, match="nothing in it is transparent") as caught:
        spec_of(FillInput(image=image, mask=None, mask_polarity=TRANSPARENT))
    assert caught.value.field == "image.content"


def test_a_mask_that_is_opaque_keeps_everything() -> None:
    spec, _ = spec_of(fill_with(encoded(Image.new("RGBA", (24, 16), "white")), TRANSPARENT))
    assert set(spec.mask.data) == {0}


def test_transparency_of_a_black_and_white_mask_plays_no_part() -> None:
    spec, notices = spec_of(fill_with(encoded(see_through())))
    assert set(spec.mask.data) == {0}
    assert notices == [
        (NoticeReason.ALPHA_IGNORED, "mask.content"),
        (NoticeReason.MASK_REPAINTS_NOTHING, "mask.content"),
    ]


NOTHING_TO_REPAINT = [
    pytest.param(Image.new("L", (24, 16), 0), WHITE, "value is 0 of 255", id="black"),
    pytest.param(Image.new("L", (24, 16), 1), WHITE, "value is 1 of 255", id="0-and-1"),
    pytest.param(Image.new("L", (24, 16), 127), WHITE, "value is 127 of 255", id="grey"),
    pytest.param(Image.new("1", (24, 16), 0), WHITE, "value is 0 of 255", id="1-bit"),
    pytest.param(Image.new("RGB", (24, 16), (1, 1, 1)), WHITE, "value is 1 of", id="rgb"),
    pytest.param(Image.new("I;16", (24, 16), 0x7FFF), WHITE, "is 127 of 255", id="16-bit"),
    pytest.param(Image.new("RGBA", (24, 16), (0, 0, 0, 0)), WHITE, "value is 0 of", id="rgba"),
    pytest.param(Image.new("L", (24, 16), 255), BLACK, "255 to 255", id="white-where-black-is"),
    pytest.param(Image.new("L", (24, 16), 128), BLACK, "128 to 128", id="grey-where-black-is"),
    pytest.param(Image.new("RGBA", (24, 16), "red"), TRANSPARENT, "255 to 255", id="opaque"),
    pytest.param(Image.new("LA", (24, 16), (0, 1)), TRANSPARENT, "1 to 1 of 255", id="a-breath"),
]


@pytest.mark.parametrize(("mask", "polarity", "told"), NOTHING_TO_REPAINT)
def test_a_mask_that_repaints_nothing_is_told_of(
    mask: Image.Image, polarity: MaskPolarity, told: str
) -> None:
    _, notices = decode_fill(
        fill_with(encoded(mask), polarity),
        SIZE,
        strength=1.0,
        preserve_unmasked=True,
        limits=ImageLimits(),
    )
    [notice] = [one for one in notices if one.reason is NoticeReason.MASK_REPAINTS_NOTHING]
    assert notice.field == "mask.content"
    assert told in notice.description


def test_what_a_mask_asks_for_may_be_lost_at_a_smaller_size() -> None:
    mask = Image.new("L", (24, 16), 0)
    mask.putpixel((0, 0), 255)
    spec, notices = spec_of(fill_with(encoded(mask)), Size(8, 8))
    assert set(spec.mask.data) == {0}
    assert (NoticeReason.MASK_REPAINTS_NOTHING, "mask.content") in notices


def test_a_mask_of_another_size_is_scaled_with_a_warning() -> None:
    mask = Image.new("L", (2, 1), 0)
    mask.putpixel((1, 0), 255)
    spec, notices = spec_of(fill_with(encoded(mask)))
    assert (array_of(spec.mask) == np.repeat([0, 255], 12)).all()
    assert notices == [(NoticeReason.MASK_RESIZED, "mask.content")]


def test_both_are_scaled_to_the_output_without_keeping_aspect() -> None:
    fill = fill_with(encoded(grey_steps()))
    spec, notices = spec_of(fill, Size(48, 8))
    expected = gradient().resize((48, 8), Image.Resampling.LANCZOS)
    assert (array_of(spec.image) == np.asarray(expected)).all()
    assert (array_of(spec.mask) == np.repeat(REPAINTED, 8)).all()
    assert notices == [(NoticeReason.IMAGE_RESIZED, "image.content")]


def test_the_image_is_passed_bit_by_bit_at_its_own_size() -> None:
    spec, _ = spec_of(fill_with(encoded(grey_steps())))
    assert spec.image == Pixels(24, 16, 3, gradient().tobytes())
    assert (spec.mask.width_px, spec.mask.height_px, spec.mask.channel_count) == (24, 16, 1)


def test_strength_and_preserve_unmasked_are_passed_on() -> None:
    spec, _ = spec_of(fill_with(encoded(grey_steps())), strength=0.5)
    assert (spec.strength, spec.preserve_unmasked) == (0.5, True)


def test_a_broken_mask_is_blamed() -> None:
    with pytest.raises(InvalidImage) as caught:
        spec_of(fill_with(encoded(grey_steps())[:-40]))
    assert caught.value.field == "mask.content"


def test_rotation_of_image_and_mask_are_both_noted() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    fill = FillInput(
        image=encoded(gradient(), exif=exif.tobytes()),
        mask=encoded(grey_steps(), exif=exif.tobytes()),
    )
    spec, notices = spec_of(fill)
    assert (array_of(spec.mask) == np.repeat(REPAINTED[::-1], 4)).all()
    assert notices == [
        (NoticeReason.IMAGE_ROTATED, "image.content"),
        (NoticeReason.IMAGE_ROTATED, "mask.content"),
    ]
