"""Reference images: how many, how large, and what the worker gets of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from darkroom_server.domain.errors import (
    FieldError,
    ImageTooLarge,
    InvalidImage,
    InvalidParameter,
    UnsupportedParameter,
    WrongTask,
)
from darkroom_server.domain.image_size import Size
from darkroom_server.domain.jobs import Task
from darkroom_server.domain.models import ModelInfo
from darkroom_server.domain.notices import NoticeReason
from darkroom_server.domain.references import BESIDE_RULES, ReferenceRule, SizeSource
from darkroom_server.image_decoding.images import ImageLimits
from darkroom_server.requests.image_requests import FillInput, ImageRequest, SourceInput
from darkroom_server.requests.limits import check_limits
from darkroom_server.requests.prepare import prepare
from darkroom_server.requests.references import check_references, check_sizes, check_takes
from darkroom_server.requests.resolve import Resolved, resolve
from tests.unit.example_models import SDXL
from tests.unit.image_decoding.pictures import encoded, gradient
from tests.unit.image_decoding.pictures_here import PicturesHere

RULE = ReferenceRule(max_count=3, shrinks=True, area_px=200 * 100)
EDITS = replace(
    SDXL, name="edits", tasks=frozenset({Task.TEXT_TO_IMAGE, Task.EDIT}), references=RULE
)
ONLY_EDITS = replace(EDITS, name="only-edits", tasks=frozenset({Task.EDIT}))
ONE_IMAGE = replace(EDITS, name="one-image", references=replace(RULE, max_count=1))
WIDE, HIGH = encoded(gradient(400, 200)), encoded(gradient(96, 160))


def edit(*images: bytes, **changes: Any) -> ImageRequest:
    return ImageRequest(task=Task.EDIT, prompt="a cat", reference_images=images, **changes)


async def prepared(request: ImageRequest, model: ModelInfo = EDITS) -> Resolved:
    return await prepare(request, model, pictures=PicturesHere(), choose_seed=lambda _: 7)


def takes(request: ImageRequest, model: ModelInfo) -> None:
    check_takes(request, model, lambda: [SDXL, EDITS, ONE_IMAGE, ONLY_EDITS])


async def test_the_worker_gets_each_in_its_own_size_and_order() -> None:
    resolved = await prepared(edit(WIDE, HIGH))
    shown = resolved.spec.reference_images
    assert [(one.width_px, one.height_px) for one in shown] == [(200, 100), (96, 160)]
    assert shown[1].data == gradient(96, 160).tobytes()
    small = gradient(400, 200).resize((200, 100), Image.Resampling.LANCZOS)
    assert shown[0].data == small.tobytes()
    assert (resolved.spec.task, resolved.spec.strength) == (Task.EDIT, 1.0)
    # The first one's, on the model's grid.
    assert (resolved.spec.width_px, resolved.spec.height_px) == (200, 96)
    resized = [one for one in resolved.notices if one.reason is NoticeReason.IMAGE_RESIZED]
    assert [one.field for one in resized] == ["reference_images[0].content"]


async def test_the_size_is_the_models_where_its_pipeline_follows_none() -> None:
    rule = replace(RULE, size_source=SizeSource.DEFAULT)
    resolved = await prepared(edit(WIDE), replace(EDITS, references=rule))
    assert (resolved.spec.width_px, resolved.spec.height_px) == (256, 256)
    asked = await prepared(edit(WIDE, width_px=128, height_px=64))
    assert (asked.spec.width_px, asked.spec.height_px) == (128, 64)


async def test_what_is_transparent_is_laid_on_white() -> None:
    clear = encoded(Image.new("RGBA", (64, 64), (10, 20, 30, 0)))
    resolved = await prepared(edit(clear))
    pixels = np.frombuffer(resolved.spec.reference_images[0].data, np.uint8)
    assert set(pixels) == {255}
    assert NoticeReason.ALPHA_FLATTENED in {one.reason for one in resolved.notices}


@pytest.mark.parametrize("broken", [b"GIF89a", WIDE[:200]], ids=["no-image", "truncated"])
async def test_a_broken_one_is_named(broken: bytes) -> None:
    with pytest.raises(InvalidImage) as caught:
        await prepared(edit(HIGH, broken, HIGH))
    assert caught.value.field == "reference_images[1].content"


async def test_pixels_are_bounded_together_before_one_is_decoded() -> None:
    pictures = PicturesHere()
    pictures.limits = replace(pictures.limits, max_total_pixel_count=2 * 96 * 160)
    made: list[str] = []
    run = pictures.run

    async def watched(work: Any, *args: Any, **kwargs: Any) -> Any:
        made.append(work.__name__)
        return await run(work, *args, **kwargs)

    pictures.run = watched  # type: ignore[method-assign]
    with pytest.raises(ImageTooLarge) as caught:
        await prepare(edit(HIGH, HIGH, HIGH), EDITS, pictures=pictures, choose_seed=lambda _: 7)
    assert caught.value.field == "reference_images[2].content"
    assert set(made) == {"upright_size"}


def test_a_shape_that_the_pipeline_refuses_is_named() -> None:
    rule = replace(RULE, min_edge_px=64)
    with pytest.raises(InvalidImage) as caught:
        check_sizes([Size(64, 64), Size(64, 63)], rule, ImageLimits())
    assert caught.value.field == "reference_images[1].content"


@pytest.mark.parametrize(
    ("images", "kind", "field"),
    [
        pytest.param([b"i"] * 11, InvalidParameter, "reference_images", id="many"),
        pytest.param([b"i", b""], InvalidParameter, "reference_images[1].content", id="empty"),
        pytest.param([b"i" * 5] * 3, ImageTooLarge, "reference_images[2].content", id="large"),
    ],
)
def test_files_are_bounded_whatever_the_model(
    images: list[bytes], kind: type[FieldError], field: str
) -> None:
    limits = ImageLimits(max_total_bytes=11)
    with pytest.raises(kind) as caught:
        check_references(images, limits)
    assert caught.value.field == field
    check_references([b"i"] * 10, limits)


def test_ten_are_taken_of_any_request_and_eleven_are_not() -> None:
    check_limits(edit(*[b"i"] * 10))
    with pytest.raises(InvalidParameter, match="11 images; at most 10"):
        check_limits(edit(*[b"i"] * 11))


def test_a_model_that_takes_none_says_who_does() -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        takes(edit(b"i", b"i"), SDXL)
    assert caught.value.field == "reference_images"
    words = "2 images; models/sdxl takes none, these take 2: models/edits, models/only-edits"
    assert str(caught.value) == words
    with pytest.raises(UnsupportedParameter, match="no model served takes any"):
        check_takes(edit(b"i"), SDXL, lambda: [SDXL])


@pytest.mark.parametrize(
    ("model", "count", "words"),
    [
        (EDITS, 4, "4 images; models/edits takes 1 to 3 images"),
        (ONE_IMAGE, 2, "2 images; models/one-image takes one image"),
    ],
)
def test_a_model_takes_no_more_than_it_says(model: ModelInfo, count: int, words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        takes(edit(*[b"i"] * count), model)
    assert model.references is not None
    takes(edit(*[b"i"] * model.references.max_count), model)


def test_a_model_that_only_edits_asks_for_images() -> None:
    drawn = ImageRequest(task=Task.TEXT_TO_IMAGE, prompt="a cat")
    takes(drawn, EDITS)
    takes(drawn, SDXL)
    with pytest.raises(InvalidParameter, match="changes images: give it 1 to 3") as caught:
        takes(drawn, ONLY_EDITS)
    assert caught.value.field == "reference_images"


def test_an_image_to_begin_with_is_not_one_to_go_by() -> None:
    request = ImageRequest(
        task=Task.IMAGE_TO_IMAGE, prompt="a cat", source=SourceInput(image=b"i", strength=0.5)
    )
    with pytest.raises(WrongTask, match="it edits images in reference_images") as caught:
        resolve(request, EDITS, source=Size(64, 64), choose_seed=lambda _: 7)
    assert caught.value.field == "image"


FILLS = replace(EDITS, tasks=frozenset({Task.EDIT, Task.FILL}))
FILLS_BY_ONE = replace(FILLS, references=replace(RULE, fill_count=1))
CHANGES = replace(SDXL, tasks=frozenset({Task.IMAGE_TO_IMAGE}))
CONTROLLED = replace(CHANGES, name="controlled", references=BESIDE_RULES["control_image"])
SHOWN = replace(CHANGES, name="shown", references=BESIDE_RULES["image_reference"])


def change(*beside: bytes) -> ImageRequest:
    source = SourceInput(image=HIGH, strength=0.5)
    return ImageRequest(
        task=Task.IMAGE_TO_IMAGE,
        prompt="a cat",
        source=source,
        reference_images=beside,
        width_px=128,
        height_px=64,
    )


async def test_a_control_image_is_as_large_as_what_is_made() -> None:
    spec = (await prepared(change(WIDE), CONTROLLED)).spec
    assert spec.source is not None
    assert [(one.width_px, one.height_px) for one in spec.reference_images] == [(128, 64)]
    spec = (await prepared(change(WIDE), SHOWN)).spec
    assert [(one.width_px, one.height_px) for one in spec.reference_images] == [(400, 200)]


def fill(*beside: bytes) -> ImageRequest:
    filled = FillInput(image=HIGH, mask=encoded(Image.new("L", (96, 160), 255)))
    return ImageRequest(task=Task.FILL, prompt="a cat", fill=filled, reference_images=beside)


async def test_what_a_fill_goes_by_keeps_its_size_of_a_model_that_edits() -> None:
    spec = (await prepared(fill(WIDE), FILLS_BY_ONE)).spec
    assert spec.fill is not None
    assert [(one.width_px, one.height_px) for one in spec.reference_images] == [(200, 100)]
    assert (spec.width_px, spec.height_px) == (96, 160)
    takes(fill(), FILLS_BY_ONE)
    takes(fill(b"i"), FILLS_BY_ONE)
    for model, words in ((FILLS_BY_ONE, "takes one image beside"), (FILLS, "takes none beside it")):
        with pytest.raises(InvalidParameter, match=words) as caught:
            takes(fill(b"i", b"i"), model)
        assert caught.value.field == "reference_images"


@pytest.mark.parametrize(
    ("model", "beside", "field", "words"),
    [
        (CONTROLLED, 0, "reference_images", "takes one image beside the image to change"),
        (CONTROLLED, 2, "reference_images", "the request has 2"),
        (SHOWN, 2, "reference_images", "the request has 2"),
        (SDXL, 1, "reference_images", "models/sdxl takes none beside it"),
        (EDITS, 1, "reference_images", "not together with an image to begin with"),
        (FILLS_BY_ONE, 1, "reference_images", "not together with an image to begin with"),
    ],
)
def test_what_stands_beside_an_image_is_as_many_as_the_model_says(
    model: ModelInfo, beside: int, field: str, words: str
) -> None:
    with pytest.raises(InvalidParameter, match=words) as caught:
        takes(change(*[b"i"] * beside), model)
    assert caught.value.field == field


def test_what_stands_beside_an_image_does_not_stand_alone() -> None:
    takes(change(b"i"), CONTROLLED)
    takes(change(), SHOWN)
    with pytest.raises(InvalidParameter, match="give it that image, too") as caught:
        takes(edit(b"i"), CONTROLLED)
    assert caught.value.field == "image"
