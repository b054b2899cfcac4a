"""A request meets a model: defaults, limits, and parameters that the model does not know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

import pytest

from darkroom_server.domain.errors import InvalidParameter, UnsupportedParameter, WrongTask
from darkroom_server.domain.image_size import Size
from darkroom_server.domain.jobs import (
    FeatureCache,
    FillSpec,
    ImageFormat,
    ImageSpec,
    OutputSpec,
    Pixels,
    PreviewSpec,
    Priority,
    Reproducibility,
    SourceSpec,
    StrengthRounding,
    Task,
)
from darkroom_server.domain.models import ModelInfo
from darkroom_server.domain.notices import NoticeReason
from darkroom_server.requests.image_requests import (
    FillInput,
    ImageRequest,
    OutputRequest,
    SourceInput,
    UnsupportedParameterPolicy,
)
from darkroom_server.requests.resolve import DEFAULT_SOURCE_STRENGTH, Resolved, resolve
from tests.unit.example_models import FLUX_FILL, FLUX_SCHNELL, SDXL

PROMPT = ImageRequest(task=Task.TEXT_TO_IMAGE, prompt="a cat")
FILL = ImageRequest(task=Task.FILL, prompt="a cat", fill=FillInput(image=b"i", mask=b"m"))
IGNORE = UnsupportedParameterPolicy.IGNORE


def never(_: int) -> NoReturn:
    raise AssertionError("the caller gave a seed")


def resolved(request: ImageRequest, model: ModelInfo = SDXL) -> Resolved:
    source = Size(512, 512) if request.fill or request.source else None
    return resolve(request, model, source=source, choose_seed=lambda _: 7)


def test_the_model_fills_in_what_is_unset() -> None:
    assert resolved(PROMPT) == Resolved(
        spec=ImageSpec(
            task=Task.TEXT_TO_IMAGE,
            prompt="a cat",
            negative_prompt=None,
            width_px=256,
            height_px=256,
            step_count=20,
            guidance_scale=5.0,
            scheduler="EulerDiscreteScheduler",
            seeds=(7,),
        ),
        strength=1.0,
        preserve_unmasked=True,
        notices=(),
    )


def test_what_is_set_stays() -> None:
    request = replace(
        PROMPT,
        negative_prompt="a dog",
        width_px=512,
        height_px=128,
        step_count=100,
        guidance_scale=0.0,
        scheduler="DDIMScheduler",
        seed=0,
        image_count=4,
        priority=Priority.HIGH,
        output=OutputRequest(format=ImageFormat.JPEG, quality=1),
    )
    assert resolved(request).spec == ImageSpec(
        task=Task.TEXT_TO_IMAGE,
        prompt="a cat",
        negative_prompt="a dog",
        width_px=512,
        height_px=128,
        step_count=100,
        guidance_scale=0.0,
        scheduler="DDIMScheduler",
        seeds=(0, 1, 2, 3),
        output=OutputSpec(format=ImageFormat.JPEG, quality=1),
        priority=Priority.HIGH,
    )


def test_a_callers_seed_is_not_replaced() -> None:
    request = replace(PROMPT, seed=2**63 - 17, image_count=2)
    spec = resolve(request, SDXL, choose_seed=never).spec
    assert spec.seeds == (2**63 - 17, 2**63 - 16)


def test_chosen_seeds_all_stay_below_2_to_the_32() -> None:
    request = replace(PROMPT, image_count=4)
    spec = resolve(request, SDXL, choose_seed=lambda count: count - 1).spec
    assert spec.seeds == (2**32 - 4, 2**32 - 3, 2**32 - 2, 2**32 - 1)


def test_unset_quality_is_90() -> None:
    output = OutputRequest(format=ImageFormat.WEBP)
    assert resolved(replace(PROMPT, output=output)).spec.output.quality == 90


@pytest.mark.parametrize(
    ("blamed", "request_"),
    [
        pytest.param("step_count", replace(PROMPT, step_count=101), id="steps"),
        pytest.param("image_count", replace(PROMPT, image_count=5), id="images"),
        pytest.param("width_px", replace(PROMPT, width_px=2048), id="width"),
        pytest.param("scheduler", replace(PROMPT, scheduler="Nope"), id="scheduler"),
    ],
)
def test_above_the_models_own_limits(blamed: str, request_: ImageRequest) -> None:
    with pytest.raises(InvalidParameter) as caught:
        resolved(request_)
    assert caught.value.field == blamed


def test_an_unknown_scheduler_names_the_compatible_and_the_nearest() -> None:
    with pytest.raises(InvalidParameter) as caught:
        resolved(replace(PROMPT, scheduler="EulerDiscretScheduler"))
    message = str(caught.value)
    assert "did you mean EulerDiscreteScheduler?" in message
    assert "DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler" in message


def test_the_pipelines_own_scheduler_is_always_allowed() -> None:
    model = replace(SDXL, schedulers=())
    request = replace(PROMPT, scheduler="EulerDiscreteScheduler")
    assert resolved(request, model).spec.scheduler == "EulerDiscreteScheduler"


@pytest.mark.parametrize(
    ("request_", "model", "able"),
    [
        pytest.param(PROMPT, FLUX_FILL, "fill", id="text-to-a-fill-model"),
        pytest.param(FILL, FLUX_SCHNELL, "text-to-image", id="image-to-a-text-model"),
    ],
)
def test_the_wrong_task_names_what_the_model_does(
    request_: ImageRequest, model: ModelInfo, able: str
) -> None:
    with pytest.raises(WrongTask, match=f"it does: {able}$") as caught:
        resolved(request_, model)
    assert caught.value.field == "model"


UNSUPPORTED = [
    pytest.param("negative_prompt", "a dog", id="negative-prompt"),
    pytest.param("preview", PreviewSpec(interval_step_count=1), id="preview"),
    pytest.param("feature_cache", FeatureCache(), id="feature-cache"),
]


@pytest.mark.parametrize(("field", "value"), UNSUPPORTED)
def test_a_parameter_the_model_cannot_honour_is_refused(field: str, value: object) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        resolved(replace(PROMPT, **{field: value}), FLUX_SCHNELL)
    assert caught.value.field == field


@pytest.mark.parametrize(("field", "value"), UNSUPPORTED)
def test_or_ignored_where_the_caller_says_so(field: str, value: object) -> None:
    request = replace(PROMPT, unsupported_parameter_policy=IGNORE, **{field: value})
    result = resolved(request, FLUX_SCHNELL)
    assert getattr(result.spec, field) is None
    assert [(notice.reason, notice.field) for notice in result.notices] == [
        (NoticeReason.PARAMETER_IGNORED, field)
    ]


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        pytest.param("strength", {"strength": 0.5}, id="strength"),
        pytest.param("preserve_unmasked", {"preserve_unmasked": True}, id="preserve-unmasked"),
    ],
)
def test_so_are_parameters_of_fill(field: str, changes: dict[str, object]) -> None:
    known = {name: True for name in FLUX_FILL.parameters if name != field}
    request = replace(FILL, unsupported_parameter_policy=IGNORE, fill=replace(FILL.fill, **changes))
    result = resolved(request, replace(FLUX_FILL, parameters=known))
    assert result.strength == 1.0
    assert [notice.field for notice in result.notices] == [field]


def test_without_strength_a_model_runs_all_its_steps() -> None:
    known = {name: True for name in FLUX_FILL.parameters if name != "strength"}
    defaults = replace(FLUX_FILL.defaults, strength=0.3)
    model = replace(FLUX_FILL, parameters=known, defaults=defaults)
    assert resolved(FILL, model).strength == 1.0


def test_ignored_images_beyond_the_first_are_not_made() -> None:
    known = {name: True for name in SDXL.parameters if name != "image_count"}
    request = replace(PROMPT, unsupported_parameter_policy=IGNORE, image_count=3)
    assert len(resolved(request, replace(SDXL, parameters=known)).spec.seeds) == 1


def test_a_parameter_without_effect_is_passed_on_with_a_warning() -> None:
    result = resolved(replace(PROMPT, guidance_scale=3.0), FLUX_SCHNELL)
    assert result.spec.guidance_scale == 3.0
    assert [(notice.reason, notice.field) for notice in result.notices] == [
        (NoticeReason.PARAMETER_WITHOUT_EFFECT, "guidance_scale")
    ]


@pytest.mark.parametrize(
    ("changes", "is_told"),
    [
        pytest.param({"guidance_scale": 1.0}, True, id="without-guidance"),
        pytest.param({"guidance_scale": 1.5}, False, id="with-guidance"),
        pytest.param({"guidance_scale": 1.0, "negative_prompt": None}, False, id="not-given"),
    ],
)
def test_a_negative_prompt_without_guidance_is_warned_about(
    changes: dict[str, Any], is_told: bool
) -> None:
    result = resolved(replace(PROMPT, **{"negative_prompt": "blue"} | changes), SDXL)
    told = [(notice.reason, notice.field) for notice in result.notices]
    expected = (NoticeReason.PARAMETER_WITHOUT_EFFECT, "negative_prompt")
    assert told == ([expected] if is_told else [])


def test_previews_without_effect_are_not_made() -> None:
    model = replace(SDXL, parameters={**SDXL.parameters, "preview": False})
    result = resolved(replace(PROMPT, preview=PreviewSpec(interval_step_count=1)), model)
    assert result.spec.preview is None
    assert [(notice.reason, notice.field) for notice in result.notices] == [
        (NoticeReason.PARAMETER_WITHOUT_EFFECT, "preview")
    ]


def test_unset_parameters_are_neither_refused_nor_warned_about() -> None:
    assert resolved(PROMPT, FLUX_SCHNELL).notices == ()


@pytest.mark.parametrize(
    ("step_count", "strength"),
    [
        pytest.param(20, 0.04, id="less-than-a-step"),
        pytest.param(20, 0.0, id="nothing-to-change"),
    ],
)
def test_a_strength_that_leaves_no_step_is_refused(step_count: int, strength: float) -> None:
    request = replace(FILL, step_count=step_count, fill=replace(FILL.fill, strength=strength))
    with pytest.raises(InvalidParameter) as caught:
        resolved(request)
    assert caught.value.field == "strength"


def test_a_strength_that_leaves_one_step_runs() -> None:
    request = replace(FILL, step_count=20, fill=replace(FILL.fill, strength=0.05))
    assert resolved(request).strength == 0.05


def test_a_family_that_rounds_up_runs_a_part_of_a_step() -> None:
    model = replace(SDXL, strength_rounding=StrengthRounding.UP)
    request = replace(FILL, step_count=4, fill=replace(FILL.fill, strength=0.01))
    assert resolved(request, model).strength == 0.01
    with pytest.raises(InvalidParameter, match="more than 0") as caught:
        resolved(replace(request, fill=replace(FILL.fill, strength=0.0)), model)
    assert caught.value.field == "strength"


@pytest.mark.parametrize("of_model", [True, False])
@pytest.mark.parametrize("asked", [None, True, False])
def test_what_is_kept_is_preserved_unless_the_request_or_the_model_says_otherwise(
    asked: bool | None, of_model: bool
) -> None:
    model = replace(SDXL, defaults=replace(SDXL.defaults, preserve_unmasked=of_model))
    request = replace(FILL, fill=replace(FILL.fill, preserve_unmasked=asked))
    assert resolved(request, model).preserve_unmasked is (of_model if asked is None else asked)


def test_pixels_join_the_spec_when_they_are_there() -> None:
    fill = FillSpec(
        image=Pixels(512, 512, 3, b""),
        mask=Pixels(512, 512, 1, b""),
        strength=1.0,
        preserve_unmasked=False,
    )
    result = resolved(FILL)
    joined = result.with_pixels(fill, ())
    assert joined.spec == replace(result.spec, fill=fill)


@pytest.mark.parametrize(
    ("of_model", "asked", "expected"),
    [
        pytest.param(0, None, 0, id="the-model's-own"),
        pytest.param(0, 1, 1, id="stricter"),
        pytest.param(1, 0, 1, id="laxer-changes-nothing"),
    ],
)
def test_a_request_may_be_stricter_than_its_model(
    of_model: int, asked: int | None, expected: int
) -> None:
    model = replace(SDXL, reproducibility=Reproducibility(of_model))
    level = None if asked is None else Reproducibility(asked)
    spec = resolved(replace(PROMPT, reproducibility=level), model).spec
    assert spec.reproducibility is Reproducibility(expected)


def test_image_to_image_follows_its_image_and_has_a_strength() -> None:
    model = replace(SDXL, tasks=frozenset({Task.IMAGE_TO_IMAGE}))
    request = replace(PROMPT, task=Task.IMAGE_TO_IMAGE, source=SourceInput(image=b"i"))
    result = resolved(request, model)
    assert (result.spec.width_px, result.strength) == (512, DEFAULT_SOURCE_STRENGTH)
    source = SourceSpec(image=Pixels(512, 512, 3, b""), strength=result.strength)
    assert result.with_pixels(source, ()).spec.strength == DEFAULT_SOURCE_STRENGTH


def test_image_to_image_needs_a_step_to_run() -> None:
    model = replace(SDXL, tasks=frozenset({Task.IMAGE_TO_IMAGE}))
    source = SourceInput(image=b"i", strength=0.01)
    request = replace(PROMPT, task=Task.IMAGE_TO_IMAGE, source=source)
    with pytest.raises(InvalidParameter) as caught:
        resolved(request, model)
    assert caught.value.field == "strength"
