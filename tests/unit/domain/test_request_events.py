from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from darkroom_server.domain.jobs import FillSpec, ImageSpec, Pixels, SourceSpec, Task
from darkroom_server.domain.notices import Notice, NoticeReason
from darkroom_server.domain.request_events import Accepted, RunningModel

MODEL = RunningModel(name="sdxl", version=3, digest="0123456789abcdef", dtype="fp32")
IMAGE, MASK = Pixels(64, 64, 3, bytes(12_288)), Pixels(64, 64, 1, bytes(4_096))
SPEC = ImageSpec(
    task=Task.TEXT_TO_IMAGE,
    prompt="a cat",
    negative_prompt=None,
    width_px=64,
    height_px=64,
    step_count=9,
    guidance_scale=0.0,
    scheduler="DDIMScheduler",
    seeds=(5,),
)
FILL = FillSpec(image=IMAGE, mask=MASK, strength=0.5, preserve_unmasked=True)


@pytest.mark.parametrize(
    ("spec", "given"),
    [
        pytest.param(SPEC, (None, None), id="text"),
        pytest.param(replace(SPEC, fill=FILL), (0.5, True), id="fill"),
        pytest.param(
            replace(SPEC, source=SourceSpec(image=IMAGE, strength=0.25)), (0.25, None), id="source"
        ),
        pytest.param(replace(SPEC, reference_images=(IMAGE,)), (None, None), id="references"),
    ],
)
def test_what_was_accepted_has_no_pixels(
    spec: ImageSpec, given: tuple[float | None, bool | None]
) -> None:
    accepted = Accepted.of("job-1", MODEL, spec)
    assert (accepted.strength, accepted.preserve_unmasked) == given
    assert len(pickle.dumps(accepted)) < 4_096


def test_notices_are_added_in_order() -> None:
    first, later = (Notice(NoticeReason.IMAGE_RESIZED, text) for text in ("first", "later"))
    accepted = Accepted.of("job-1", MODEL, SPEC, notices=(first,))
    assert accepted.with_notices((later,)).notices == (first, later)
