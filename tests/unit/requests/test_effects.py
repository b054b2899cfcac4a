"""Parameters that a request makes ineffective: each is told, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from darkroom_server.domain.image_size import Size
from darkroom_server.domain.jobs import FeatureCache, PreviewSpec, Task
from darkroom_server.domain.models import ModelInfo
from darkroom_server.domain.notices import NoticeReason
from darkroom_server.requests.image_requests import ImageRequest, SourceInput
from darkroom_server.requests.resolve import resolve
from tests.unit.example_models import FLUX_SCHNELL, SDXL

PROMPT = ImageRequest(task=Task.TEXT_TO_IMAGE, prompt="a cat")
#: As Qwen-Image is: guided by a negative prompt, or not at all.
TRUE_GUIDANCE = replace(SDXL, guidance_needs_negative=True)
#: As Z-Image is: guided by any scale above 0.
ADDED = replace(SDXL, pipeline_class="ZImagePipeline")
#: As a FLUX is whose guidance is an input of the denoiser.
EMBEDDED = replace(FLUX_SCHNELL, parameters={**FLUX_SCHNELL.parameters, "guidance_scale": True})
ABLE = replace(
    SDXL,
    tasks=frozenset(Task),
    parameters={**SDXL.parameters, "preview": True, "feature_cache": True, "strength": True},
)


def told(model: ModelInfo, **changes: Any) -> list[str]:
    request = replace(PROMPT, **changes)
    source = Size(512, 512) if request.source else None
    made = resolve(request, model, source=source, choose_seed=lambda _: 7)
    reasons = {notice.reason for notice in made.notices}
    assert reasons <= {NoticeReason.PARAMETER_WITHOUT_EFFECT}
    return [notice.field for notice in made.notices]


@pytest.mark.parametrize(
    ("model", "asked", "fields"),
    [
        pytest.param(TRUE_GUIDANCE, {}, ["guidance_scale"], id="the-default-without-a-negative"),
        pytest.param(
            TRUE_GUIDANCE, {"guidance_scale": 4.0}, ["guidance_scale"], id="one-that-is-asked-for"
        ),
        pytest.param(
            TRUE_GUIDANCE, {"guidance_scale": 4.0, "negative_prompt": "x"}, [], id="with-a-negative"
        ),
        pytest.param(TRUE_GUIDANCE, {"guidance_scale": 1.0}, [], id="none-is-asked-for"),
        pytest.param(SDXL, {"guidance_scale": 0.5}, ["guidance_scale"], id="less-than-none"),
        pytest.param(SDXL, {"guidance_scale": 0.0}, [], id="none-as-0"),
        pytest.param(SDXL, {"guidance_scale": 1.0}, [], id="none-as-1"),
        pytest.param(SDXL, {"guidance_scale": 5.0}, [], id="some"),
        pytest.param(
            ADDED, {"guidance_scale": 0.5, "negative_prompt": "x"}, [], id="little-from-0-on"
        ),
        pytest.param(
            ADDED,
            {"guidance_scale": 0.0, "negative_prompt": "x"},
            ["negative_prompt"],
            id="none-from-0-on",
        ),
        pytest.param(EMBEDDED, {"guidance_scale": 0.5}, [], id="as-an-input-any-changes-something"),
        pytest.param(
            SDXL,
            {"guidance_scale": 0.5, "negative_prompt": "x"},
            ["negative_prompt", "guidance_scale"],
            id="neither-of-the-two",
        ),
    ],
)
def test_guidance(model: ModelInfo, asked: dict[str, Any], fields: list[str]) -> None:
    assert told(model, **asked) == fields


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        pytest.param({"step_count": 4, "preview": PreviewSpec(interval_step_count=3)}, [], id="in"),
        pytest.param(
            {"step_count": 4, "preview": PreviewSpec(interval_step_count=4)}, ["preview"], id="last"
        ),
        pytest.param(
            {"step_count": 1, "preview": PreviewSpec(interval_step_count=1)}, ["preview"], id="one"
        ),
        pytest.param(
            {
                "task": Task.IMAGE_TO_IMAGE,
                "source": SourceInput(image=b"i", strength=0.25),
                "step_count": 8,
                "preview": PreviewSpec(interval_step_count=2),
            },
            ["preview"],
            id="of-the-steps-that-strength-leaves",
        ),
        pytest.param({"feature_cache": FeatureCache(threshold=0.1)}, [], id="cache"),
        pytest.param(
            {"step_count": 1, "feature_cache": FeatureCache(threshold=0.1)},
            ["feature_cache"],
            id="cache-of-one-step",
        ),
    ],
)
def test_steps(asked: dict[str, Any], fields: list[str]) -> None:
    assert told(ABLE, **asked) == fields
