"""Row 13 of the first page: every kind of image goes in and comes out, told by its content."""

from __future__ import annotations

import io
from collections.abc import Callable

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.e2e.gateway.conftest import FILL, SDXL, Service, base64_of, encoded, grey, opened

ROUTE = "/api/v1/images/generation"
#: All black: the answer is the image as it was read.
KEPT = {"prompt": "x", "mask": base64_of(grey(0)), "preserve_unmasked": True, "num_steps": 1}


def halves(mode: str = "RGB") -> Image.Image:
    """Black on the left, white on the right, half as high as wide."""
    picture = Image.new("L", (128, 64), 0)
    picture.paste(255, (64, 0, 128, 64))
    return picture.convert(mode)


def ask(service: Service, content: bytes, **more: object) -> httpx.Response:
    body = KEPT | {"model": FILL, "image": base64_of(content)} | more
    answer = service.http.post(ROUTE, json=body)
    assert answer.status_code == httpx.codes.OK, answer.text
    return answer


def kept(answer: httpx.Response) -> np.ndarray:
    picture = opened(answer.json()["data"][0]["b64_json"])
    return np.asarray(picture.convert("L")).astype(int)


def rotated() -> bytes:
    """Taken with the camera on its side: as stored, the white half is at the bottom."""
    picture = halves().transpose(Image.Transpose.ROTATE_270)
    exif = Image.Exif()
    exif[0x0112] = 8
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def deep() -> bytes:
    levels = np.asarray(halves("L")).astype(np.uint16) * 257
    return encoded(Image.fromarray(levels))


def animated() -> bytes:
    buffer = io.BytesIO()
    others = [Image.new("RGB", (128, 64), shade) for shade in ("red", "blue")]
    halves().save(buffer, "WEBP", save_all=True, append_images=others, lossless=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("write", "warning"),
    [
        pytest.param(lambda: encoded(halves(), "JPEG"), None, id="jpeg"),
        pytest.param(lambda: encoded(halves(), "PNG"), None, id="png"),
        pytest.param(lambda: encoded(halves(), "WEBP"), None, id="webp"),
        pytest.param(rotated, "IMAGE_ROTATED", id="exif-orientation"),
        pytest.param(lambda: encoded(halves("CMYK"), "JPEG"), "COLOR_CONVERTED", id="cmyk"),
        pytest.param(deep, "DEPTH_REDUCED", id="16-bit"),
        pytest.param(animated, "FIRST_FRAME_USED", id="animated-webp"),
    ],
)
def test_page_1_row_13_an_image_of_any_kind_is_read(
    service: Service, write: Callable[[], bytes], warning: str | None
) -> None:
    answer = ask(service, write())
    found = kept(answer)
    assert found.shape == (64, 128)
    assert found[:, :60].max() < 16
    assert found[:, 68:].min() > 239
    assert warning is None or warning in answer.headers["x-darkroom-warning"]


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_page_1_row_13_transparency_is_laid_on_white_in_every_format(
    service: Service, form: str
) -> None:
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    answer = ask(service, encoded(clear), output_format=form)
    assert opened(answer.json()["data"][0]["b64_json"]).mode == "RGB"
    assert kept(answer).min() > 250
    assert "ALPHA_FLATTENED" in answer.headers["x-darkroom-warning"]


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF"])
def test_page_1_row_13_other_formats_are_a_400_that_names_the_image(
    service: Service, form: str
) -> None:
    body = KEPT | {"model": FILL, "image": base64_of(encoded(halves(), form))}
    answer = service.http.post(ROUTE, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "image")


@pytest.mark.parametrize("name", ["jpg", "JPEG", "png", "webp"])
def test_page_1_row_13_every_format_comes_out_by_its_name(service: Service, name: str) -> None:
    body = {"model": SDXL, "prompt": "x", "width": 64, "height": 64, "output_format": name}
    answer = service.http.post(ROUTE, json=body)
    form = opened(answer.json()["data"][0]["b64_json"]).format
    assert form == name.upper().replace("JPG", "JPEG")
