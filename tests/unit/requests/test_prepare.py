"""The steps from a request to what runs, both tasks."""

from __future__ import annotations

from PIL import Image

from darkroom_server.domain.jobs import Task
from darkroom_server.domain.notices import NoticeReason
from darkroom_server.requests.image_requests import FillInput, ImageRequest
from darkroom_server.requests.prepare import prepare
from darkroom_server.requests.resolve import Resolved
from tests.unit.example_models import FLUX_FILL, SDXL
from tests.unit.image_decoding.pictures import encoded, gradient
from tests.unit.image_decoding.pictures_here import PicturesHere


async def prepared(request: ImageRequest, model=SDXL) -> Resolved:
    return await prepare(request, model, pictures=PicturesHere(), choose_seed=lambda _: 7)


async def test_text_needs_no_pixels() -> None:
    resolved = await prepared(ImageRequest(task=Task.TEXT_TO_IMAGE, prompt="a cat"))
    assert resolved.spec.fill is None
    assert resolved.spec.seeds == (7,)


async def test_a_fill_gets_its_pixels_at_the_size_resolved() -> None:
    """The image lies on its side: 750 x 1000 in the file, 1000 x 750 as seen."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = encoded(gradient(750, 1000), exif=exif.tobytes())
    mask = encoded(Image.new("L", (1000, 750), 255))
    fill = FillInput(image=image, mask=mask, strength=0.5)
    resolved = await prepared(ImageRequest(task=Task.FILL, prompt="a cat", fill=fill), FLUX_FILL)
    assert (resolved.spec.width_px, resolved.spec.height_px) == (992, 736)
    assert resolved.spec.fill is not None
    assert (resolved.spec.fill.image.width_px, resolved.spec.fill.image.height_px) == (992, 736)
    assert resolved.spec.fill.strength == 0.5
    assert {notice.reason for notice in resolved.notices} == {
        NoticeReason.DIMENSION_ROUNDED,
        NoticeReason.IMAGE_ROTATED,
        NoticeReason.IMAGE_RESIZED,
    }
