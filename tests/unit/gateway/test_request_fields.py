"""What the images sent along make of a request, and what is asked of them in vain."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from PIL import Image

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.jobs import Task
from darkroom_server.gateway.fields import Fields
from darkroom_server.gateway.request_fields import Manner, read_request
from darkroom_server.requests.image_requests import ImageRequest, MaskPolarity
from tests.unit.image_decoding.pictures import encoded
from tests.unit.image_decoding.pictures_here import PicturesHere

EDIT = Manner(mask_polarity=MaskPolarity.TRANSPARENT_REPAINTS)
EVERY_TASK = frozenset(Task)


def base64_of(alpha: int | None) -> str:
    """A picture of one grey, with one pixel of this opacity, or without opacity."""
    picture = Image.new("RGB" if alpha is None else "RGBA", (64, 64), "grey")
    if alpha is not None:
        picture.putpixel((5, 5), (0, 0, 0, alpha))
    return base64.b64encode(encoded(picture)).decode()


IMAGE = {"image": base64_of(None)}


def read(
    body: dict[str, Any], manner: Manner, tasks: frozenset[Task] = EVERY_TASK
) -> tuple[ImageRequest, list[str]]:
    """The request and the names that change nothing."""
    fields = Fields({"prompt": "x", **body})
    _, request = asyncio.run(read_request(fields, manner, tasks, PicturesHere()))
    return request, list(fields.ignored)


@pytest.mark.parametrize(
    ("alpha", "task"),
    [
        pytest.param(None, Task.IMAGE_TO_IMAGE, id="none"),
        pytest.param(255, Task.IMAGE_TO_IMAGE, id="opaque"),
        pytest.param(1, Task.IMAGE_TO_IMAGE, id="nearly-transparent"),
        pytest.param(0, Task.FILL, id="transparent"),
    ],
)
@pytest.mark.parametrize("tasks", [EVERY_TASK, EVERY_TASK - {Task.FILL}])
def test_only_what_is_transparent_can_be_filled(
    alpha: int | None, task: Task, tasks: frozenset[Task]
) -> None:
    request, _ = read({"image": base64_of(alpha)}, EDIT, tasks)
    assert request.task is task


def test_a_model_that_only_fills_goes_by_the_opacity_that_there_is() -> None:
    request, _ = read({"image": base64_of(255)}, Manner(), frozenset({Task.FILL}))
    assert request.fill is not None
    assert request.fill.mask_polarity is MaskPolarity.TRANSPARENT_REPAINTS


@pytest.mark.parametrize("image", [{}, IMAGE], ids=["text", "image"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("strength", 1.5), ("strength", "a"), ("mask_polarity", "a"), ("preserve_unmasked", "a")],
)
def test_a_value_is_refused_where_it_would_change_nothing_too(
    image: dict[str, Any], name: str, value: Any
) -> None:
    with pytest.raises(InvalidParameter) as caught:
        read({**image, name: value}, Manner())
    assert caught.value.field == name


@pytest.mark.parametrize("prompt", [None, "", " "])
@pytest.mark.parametrize("mask", [None, base64_of(None)], ids=["begun", "filled"])
def test_an_image_needs_no_prompt(prompt: str | None, mask: str | None) -> None:
    request, _ = read({**IMAGE, "mask": mask, "prompt": prompt}, Manner())
    assert request.prompt == (prompt or "")
    with pytest.raises(InvalidParameter) as caught:
        read({"prompt": prompt}, Manner())
    assert caught.value.field == "prompt"


@pytest.mark.parametrize(
    ("written", "asked"),
    [(None, None), (True, True), (False, False), ("true", True), ("false", False)],
)
def test_what_is_kept_may_be_left_to_the_model(written: object, asked: bool | None) -> None:
    body = {**IMAGE, "mask": base64_of(None), "preserve_unmasked": written}
    request, _ = read(body, Manner())
    assert request.fill is not None
    assert request.fill.preserve_unmasked is asked


@pytest.mark.parametrize(
    ("body", "ignored"),
    [
        pytest.param({"strength": 0}, ["strength"], id="strength"),
        pytest.param({"mask_polarity": "white"}, ["mask_polarity"], id="polarity"),
        pytest.param({"preserve_unmasked": True}, ["preserve_unmasked"], id="preserve"),
        pytest.param({"preserve_unmasked": False, "strength": None}, [], id="nothing"),
        pytest.param({"foo": 1, "strength": 0.5}, ["strength", "foo"], id="before-the-unknown"),
        pytest.param(
            IMAGE | {"strength": 0.5, "preserve_unmasked": "true"},
            ["preserve_unmasked"],
            id="image",
        ),
        pytest.param(
            IMAGE
            | {"mask": base64_of(None), "strength": 0.5}
            | {"preserve_unmasked": True, "mask_polarity": "white"},
            [],
            id="mask",
        ),
    ],
)
def test_what_is_asked_in_vain_is_told(body: dict[str, Any], ignored: list[str]) -> None:
    assert read(body, Manner())[1] == ignored


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("square_hd", (1024, 1024)),
        ("square", (512, 512)),
        ("portrait_4_3", (768, 1024)),
        ("portrait_16_9", (576, 1024)),
        ("landscape_4_3", (1024, 768)),
        ("landscape_16_9", (1024, 576)),
    ],
)
def test_a_size_may_have_a_name(name: str, size: tuple[int, int]) -> None:
    request, _ = read({"image_size": name}, Manner())
    assert (request.width_px, request.height_px) == size


@pytest.mark.parametrize("quality", [101, -1, "a"])
@pytest.mark.parametrize("form", ["png", "jpeg"])
def test_a_quality_is_looked_at_where_it_changes_nothing_too(quality: Any, form: str) -> None:
    with pytest.raises(InvalidParameter):
        read({"output_quality": quality, "output_format": form}, Manner())
