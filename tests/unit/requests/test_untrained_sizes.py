from __future__ import annotations

from dataclasses import replace

import pytest

from darkroom_server.domain.jobs import Task
from darkroom_server.domain.notices import Notice, NoticeReason
from darkroom_server.domain.trained_sizes import TrainedSizes
from darkroom_server.requests.image_requests import ImageRequest
from darkroom_server.requests.resolve import resolve
from tests.unit.example_models import SDXL


def told(sizes: TrainedSizes, width_px: int, height_px: int) -> list[Notice]:
    request = ImageRequest(
        task=Task.TEXT_TO_IMAGE, prompt="a cat", width_px=width_px, height_px=height_px
    )
    model = replace(SDXL, trained_sizes=sizes)
    notices = resolve(request, model, choose_seed=lambda _: 0).notices
    return [one for one in notices if one.reason is NoticeReason.SIZE_UNTRAINED]


@pytest.mark.parametrize(
    ("sizes", "fields", "words"),
    [
        pytest.param(TrainedSizes(), [], "", id="not-known"),
        pytest.param(TrainedSizes(256, 512), [], "", id="trained"),
        pytest.param(TrainedSizes(512, 1024), ["width_px"], "from 512 up to 1024 px", id="small"),
        pytest.param(TrainedSizes(max_size_px=256), ["height_px"], "sizes up to 256", id="large"),
        pytest.param(TrainedSizes(384, 384), ["width_px", "height_px"], "at 256 px", id="both"),
    ],
)
def test_sizes_that_a_model_was_not_trained_at_are_warned_about(
    sizes: TrainedSizes, fields: list[str], words: str
) -> None:
    notices = told(sizes, 256, 512)
    assert [notice.field for notice in notices] == fields
    assert words in " ".join(notice.description for notice in notices)
