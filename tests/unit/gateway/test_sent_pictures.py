"""Pictures of a body: one or several, in whatever shape, and which they are to be."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from PIL import Image

from darkroom_server.domain.errors import FieldError, InvalidImage, InvalidParameter
from darkroom_server.domain.jobs import Task
from darkroom_server.gateway.fields import Fields
from darkroom_server.gateway.request_fields import Manner, read_request
from darkroom_server.gateway.sent_pictures import number_of, pictures_in
from darkroom_server.requests.image_requests import ImageRequest
from tests.unit.image_decoding.pictures import encoded
from tests.unit.image_decoding.pictures_here import PicturesHere

A, B, C = (encoded(Image.new("RGB", (64, 64), shade)) for shade in ("red", "green", "blue"))
DRAWS = frozenset({Task.TEXT_TO_IMAGE, Task.IMAGE_TO_IMAGE, Task.FILL})
EDITS = frozenset({Task.TEXT_TO_IMAGE, Task.EDIT})
BOTH = frozenset(Task)


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def url_of(content: bytes) -> str:
    return f"data:image/png;base64,{base64_of(content)}"


def read(body: dict[str, Any], tasks: frozenset[Task]) -> tuple[ImageRequest, Fields]:
    fields = Fields({"prompt": "x", **body})
    _, request = asyncio.run(read_request(fields, Manner(), tasks, PicturesHere()))
    return request, fields


@pytest.mark.parametrize(
    ("value", "found"),
    [
        pytest.param(None, (), id="nothing"),
        pytest.param([], (), id="empty"),
        pytest.param("a", ("a",), id="text"),
        pytest.param({"url": "a"}, ("a",), id="url"),
        pytest.param([{"image_url": {"url": "a"}}, b"b", ["c", None]], ("a", b"b", "c"), id="all"),
    ],
)
def test_pictures_are_found_in_lists_and_objects(value: Any, found: tuple[Any, ...]) -> None:
    assert pictures_in(value, "images") == found


@pytest.mark.parametrize("value", [5, ["a", {}], [{"file_id": "f"}], True])
def test_what_is_no_picture_is_refused(value: Any) -> None:
    with pytest.raises(InvalidImage) as caught:
        pictures_in(value, "images")
    assert caught.value.field == "images"


def test_names_may_number_pictures() -> None:
    names = ["input_image_2", "image1", "image_10", "input_image_url_3", "reference_image_1"]
    assert [number_of(name) for name in names] == [2, 1, 10, 3, 1]
    assert [number_of(name) for name in ("image", "image_", "image_x", "my_image_2")] == [None] * 4


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"images": [url_of(A), {"image_url": url_of(B)}, C]}, id="images"),
        pytest.param({"reference_images": [A, B, C]}, id="reference-images"),
        pytest.param({"image_urls": [url_of(A), url_of(B), url_of(C)]}, id="image-urls"),
        pytest.param({"input_images": [A, B, C]}, id="input-images"),
        pytest.param({"image": [A, B, C]}, id="a-repeated-part"),
        pytest.param(
            {"input_image_3": C, "input_image": base64_of(A), "input_image_2": B}, id="numbered"
        ),
        pytest.param({"input_image_10": C, "input_image_1": A, "input_image_2": B}, id="from-one"),
    ],
)
@pytest.mark.parametrize("tasks", [EDITS, BOTH, DRAWS])
def test_several_are_what_an_edit_goes_by_in_their_order(
    body: dict[str, Any], tasks: frozenset[Task]
) -> None:
    """Also of a model that does not edit, which then says who does."""
    request, fields = read(body, tasks)
    assert (request.task, request.reference_images) == (Task.EDIT, (A, B, C))
    assert fields.ignored == []


@pytest.mark.parametrize("name", ["image", "images", "input_image", "reference_images", "image_1"])
@pytest.mark.parametrize(
    ("tasks", "task"),
    [(EDITS, Task.EDIT), (BOTH, Task.IMAGE_TO_IMAGE), (DRAWS, Task.IMAGE_TO_IMAGE)],
)
def test_one_is_what_the_model_makes_of_it(name: str, tasks: frozenset[Task], task: Task) -> None:
    request, _ = read({name: [A] if name.endswith("s") else A}, tasks)
    assert request.task is task
    assert request.reference_images == ((A,) if task is Task.EDIT else ())


def test_one_with_a_mask_is_filled_and_several_are_not() -> None:
    request, _ = read({"images": [A], "mask": B}, EDITS | {Task.FILL})
    assert request.task is Task.FILL
    with pytest.raises(InvalidParameter, match="2 images were sent; one goes with a mask"):
        read({"images": [A, B], "mask": C}, EDITS | {Task.FILL})


def test_a_transparent_one_is_gone_by_where_nothing_is_filled() -> None:
    clear = encoded(Image.new("RGBA", (64, 64), (0, 0, 0, 0)))
    request, _ = read({"image": clear}, EDITS)
    assert request.task is Task.EDIT


def test_strength_means_nothing_to_an_edit() -> None:
    request, fields = read({"images": [A, B], "strength": 0.5}, EDITS)
    assert request.task is Task.EDIT
    assert fields.ignored == ["strength"]


def test_one_that_is_sent_apart_is_changed_and_the_others_stand_beside_it() -> None:
    request, _ = read({"image": A, "images": [A]}, EDITS)
    assert request.reference_images == (A,)
    request, _ = read({"image": A, "images": [B, C], "strength": 0.5}, DRAWS)
    assert (request.task, request.reference_images) == (Task.IMAGE_TO_IMAGE, (B, C))
    assert request.source is not None
    assert (request.source.image, request.source.strength) == (A, 0.5)
    request, _ = read({"image": A, "reference_images": [B], "mask": C}, DRAWS)
    assert request.fill is not None
    assert (request.fill.image, request.reference_images) == (A, (B,))


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"images": [A, "?"]}, "images[1]"),
        ({"image": [A, "?"]}, "image[1]"),
        ({"input_image": A, "input_image_2": "?"}, "input_image_2"),
    ],
)
def test_the_one_at_fault_is_named_as_it_was_sent(body: dict[str, Any], shown: str) -> None:
    with pytest.raises(FieldError) as caught:
        read(body, EDITS)
    assert caught.value.field == shown


def test_two_pictures_of_one_number_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="is picture 2, as image_2 is") as caught:
        Fields({"image_1": A, "image_2": B, "input_image_2": C})
    assert caught.value.field == "input_image_2"
