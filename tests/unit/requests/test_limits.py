"""Limits that a proto request cannot break, but another edge's could."""

from __future__ import annotations

import pytest

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.jobs import Task
from darkroom_server.requests.image_requests import ImageRequest
from darkroom_server.requests.limits import check_limits


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_half_of_a_surrogate_pair_is_no_text(field: str) -> None:
    texts = {"prompt": "a cat"} | {field: "a \ud83d cat"}
    with pytest.raises(InvalidParameter) as caught:
        check_limits(ImageRequest(task=Task.TEXT_TO_IMAGE, **texts))
    assert caught.value.field == field


def test_no_images_is_too_few() -> None:
    with pytest.raises(InvalidParameter) as caught:
        check_limits(ImageRequest(task=Task.TEXT_TO_IMAGE, prompt="a cat", image_count=0))
    assert caught.value.field == "image_count"
