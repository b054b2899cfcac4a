"""Finished pixels as files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from PIL import ExifTags, Image

from darkroom_server.domain.jobs import ImageFormat, OutputSpec
from darkroom_server.worker.encoding import encode_image

PNG = OutputSpec()
JPEG = OutputSpec(format=ImageFormat.JPEG)
WEBP = OutputSpec(format=ImageFormat.WEBP)
LOSSLESS = OutputSpec(format=ImageFormat.WEBP, lossless=True)

shapes = st.tuples(st.integers(1, 33), st.integers(1, 33), st.just(3))


def decoded(content: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return picture


def smooth(height_px: int = 64, width_px: int = 96) -> np.ndarray:
    rows, columns = np.mgrid[0:height_px, 0:width_px]
    return np.stack([columns * 2, rows * 3, columns + rows], axis=-1).astype(np.uint8)


def noise(height_px: int, width_px: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height_px, width_px, 3), np.uint8)


@pytest.mark.parametrize(
    "output", [pytest.param(PNG, id="png"), pytest.param(LOSSLESS, id="lossless-webp")]
)
@settings(max_examples=100)
@given(array=st_numpy.arrays(np.uint8, shapes))
def test_lossless_formats_keep_every_bit(output: OutputSpec, array: np.ndarray) -> None:
    picture = decoded(encode_image(array, output))
    assert picture.mode == "RGB"
    assert (np.asarray(picture) == array).all()


def test_a_png_of_noise_larger_than_a_compression_window() -> None:
    array = noise(300, 500)
    assert (np.asarray(decoded(encode_image(array, PNG))) == array).all()


def test_pixels_need_not_be_contiguous() -> None:
    array = smooth()[::-1, ::2]
    assert (np.asarray(decoded(encode_image(array, PNG))) == array).all()


@pytest.mark.parametrize(
    ("output", "name"),
    [pytest.param(JPEG, "JPEG", id="jpeg"), pytest.param(WEBP, "WEBP", id="webp")],
)
def test_lossy_formats_come_close(output: OutputSpec, name: str) -> None:
    picture = decoded(encode_image(smooth(), output))
    assert (picture.format, picture.size) == (name, (96, 64))
    assert np.abs(np.asarray(picture).astype(int) - smooth()).mean() < 4


@pytest.mark.parametrize("format_", [ImageFormat.JPEG, ImageFormat.WEBP])
def test_quality_costs_bytes(format_: ImageFormat) -> None:
    low, high = (
        encode_image(noise(64, 64), OutputSpec(format=format_, quality=quality))
        for quality in (10, 95)
    )
    assert len(low) < len(high)


@pytest.mark.parametrize("output", [PNG, JPEG, WEBP, LOSSLESS])
def test_the_same_pixels_make_the_same_file(output: OutputSpec) -> None:
    assert encode_image(smooth(), output) == encode_image(smooth(), output)


METADATA = {"prompt": "ein Käfer, 甲虫 🪲", "seed": "7"}


def test_metadata_in_a_png_is_text() -> None:
    picture = decoded(encode_image(smooth(), PNG, metadata=METADATA))
    assert picture.info == METADATA
    assert (np.asarray(picture) == smooth()).all()


@pytest.mark.parametrize("output", [JPEG, WEBP, LOSSLESS])
def test_metadata_elsewhere_is_an_exif_comment(output: OutputSpec) -> None:
    picture = decoded(encode_image(smooth(), output, metadata=METADATA))
    comment = picture.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
    assert comment.removeprefix(b"UNICODE\x00").decode("utf-16-be") == (
        "prompt: ein Käfer, 甲虫 🪲\nseed: 7"
    )


@pytest.mark.parametrize("output", [PNG, JPEG, WEBP, LOSSLESS])
@pytest.mark.parametrize(
    "prompt", [pytest.param("a" * 32_768, id="longest"), pytest.param("a\x00b", id="zero-byte")]
)
def test_no_prompt_spoils_the_file(output: OutputSpec, prompt: str) -> None:
    picture = decoded(encode_image(smooth(), output, metadata={"prompt": prompt}))
    assert picture.size == (96, 64)


@pytest.mark.parametrize("output", [PNG, JPEG, WEBP, LOSSLESS])
def test_without_metadata_nothing_is_told(output: OutputSpec) -> None:
    picture = decoded(encode_image(smooth(), output))
    assert not picture.getexif()
    assert "prompt" not in picture.info
