from __future__ import annotations

from typing import Any

import pytest

from darkroom_server.domain.errors import FieldError, InvalidParameter
from darkroom_server.domain.jobs import ImageFormat, MaskPolarity, Priority, Task
from darkroom_server.parameters.table import PARAMETERS
from darkroom_server.wire.kserve.inputs import (
    NAMES,
    Asked,
    InferCall,
    inputs_of,
    read_call,
    tensor_name,
)
from tests.unit.example_models import SDXL

EVERY_TASK = frozenset(Task)


def read(
    parameters: dict[str, Any] | None = None, tasks: frozenset[Task] = EVERY_TASK, **inputs: Any
) -> Asked:
    given = {"PROMPT": b"x"} | inputs
    call = InferCall(model="m", version="", id="1", inputs=given, parameters=parameters or {})
    return read_call(call, tasks)


def test_every_field_has_a_tensor_of_its_own() -> None:
    fields = [one for path, one in PARAMETERS.items() if path not in ("model", "version")]
    names = {tensor_name(one) for one in fields}
    assert len(names) == len(fields)
    for one in fields:
        assert NAMES[tensor_name(one).lower()] == NAMES[one.path] == one.path


def test_a_model_lists_what_it_honours() -> None:
    names = [tensor_name(one) for one in inputs_of(SDXL)]
    assert names[0] == "PROMPT"
    assert {"SEED", "STEPS", "NEGATIVE_PROMPT"} <= set(names)
    assert len(names) == len(set(names))


def test_inputs_and_parameters_are_fields_alike() -> None:
    by_input = read(STEPS=4, guidance_scale=7.1, Format=b"jpeg", output_quality=b"80", seed=2)
    by_parameter = read(
        {"num_steps": "4", "cfg_scale": "7.1", "format": "JPEG", "quality": 80.0, "seed": "2"}
    )
    assert by_input.request == by_parameter.request
    assert by_input.request.step_count == 4
    assert by_input.request.guidance_scale == 7.1
    assert by_input.request.output.format is ImageFormat.JPEG


@pytest.mark.parametrize(
    ("inputs", "tasks", "task"),
    [
        pytest.param({}, EVERY_TASK, Task.TEXT_TO_IMAGE, id="no-picture"),
        pytest.param({"IMAGE": b"i"}, EVERY_TASK, Task.IMAGE_TO_IMAGE, id="an-image"),
        pytest.param({"IMAGE": b"i", "MASK": b"m"}, EVERY_TASK, Task.FILL, id="a-mask"),
        pytest.param(
            {"IMAGE": b"i", "MASK_POLARITY": b"transparent"}, EVERY_TASK, Task.FILL, id="holes"
        ),
        pytest.param(
            {"IMAGE": b"i", "MASK": b"m"}, frozenset({Task.FILL}), Task.FILL, id="only-fills"
        ),
    ],
)
def test_what_is_sent_along_makes_the_task(
    inputs: dict[str, bytes], tasks: frozenset[Task], task: Task
) -> None:
    request = read(tasks=tasks, **inputs).request
    assert request.task is task
    if "MASK_POLARITY" in inputs:
        assert request.fill is not None
        assert request.fill.mask_polarity is MaskPolarity.TRANSPARENT_REPAINTS


EDITS = frozenset({Task.TEXT_TO_IMAGE, Task.EDIT})


@pytest.mark.parametrize("tasks", [EDITS, EVERY_TASK])
def test_images_to_go_by_are_elements_of_one_input(tasks: frozenset[Task]) -> None:
    request = read(tasks=tasks, REFERENCE_IMAGES=(b"a", b"b")).request
    assert (request.task, request.reference_images) == (Task.EDIT, (b"a", b"b"))
    assert read(tasks=tasks, images=b"a").request.reference_images == (b"a",)


def test_images_to_go_by_may_stand_beside_one_to_change() -> None:
    request = read(tasks=EVERY_TASK, IMAGE=b"a", REFERENCE_IMAGES=(b"b",)).request
    assert (request.task, request.reference_images) == (Task.IMAGE_TO_IMAGE, (b"b",))


def test_an_image_is_one_to_go_by_where_the_model_begins_with_none() -> None:
    request = read(tasks=EDITS, IMAGE=b"a").request
    assert (request.task, request.reference_images) == (Task.EDIT, (b"a",))


@pytest.mark.parametrize(
    ("inputs", "named"),
    [
        pytest.param({"REFERENCE_IMAGES": (b"a",), "MASK": b"b"}, "MASK", id="a-mask"),
        pytest.param({"images": (b"a", b"")}, "images[1]", id="empty"),
        pytest.param({"REFERENCE_IMAGES": (b"a", 5)}, "REFERENCE_IMAGES", id="no-file"),
        pytest.param({"PROMPT": (b"a", b"b")}, "PROMPT", id="two-prompts"),
    ],
)
def test_what_is_wrong_with_images_to_go_by_is_named(inputs: dict[str, Any], named: str) -> None:
    with pytest.raises(FieldError) as caught:
        read(**inputs)
    assert caught.value.field == named


@pytest.mark.parametrize(
    ("value", "priority"),
    [
        (0, Priority.NORMAL),
        (1, Priority.HIGH),
        (2, Priority.NORMAL),
        (3, Priority.LOW),
        (9, Priority.LOW),
        ("1", Priority.HIGH),
        ("low", Priority.LOW),
        ("High", Priority.HIGH),
    ],
)
def test_a_priority_is_a_level_from_the_highest_or_a_word(value: Any, priority: Priority) -> None:
    assert read({"priority": value}).request.priority is priority


def test_triton_s_parameters_keep_their_meaning() -> None:
    asked = read(
        {
            "timeout": 2_500_000,
            "sequence_id": 4,
            "sequence_start": True,
            "triton_enable_empty_final_response": True,
            "binary_data_output": True,
        }
    )
    assert (asked.timeout_s, asked.ends_empty) == (2.5, True)
    assert read({"timeout": 0}).timeout_s is None


@pytest.mark.parametrize(
    ("given", "parameters", "field", "told"),
    [
        ({"LENS": b"x"}, {}, "LENS", "no such input"),
        ({}, {"lens": "x"}, "lens", "no such input"),
        ({"STEPS": b"many"}, {}, "STEPS", "no number"),
        ({"STEPS": 2.5}, {}, "STEPS", "no whole number"),
        ({"STEPS": True}, {}, "STEPS", "no number"),
        ({"steps": 0}, {}, "steps", "not between 1 and 500"),
        ({"SEED": "9" * 400}, {}, "SEED", "not between"),
        ({"GUIDANCE_SCALE": float("nan")}, {}, "GUIDANCE_SCALE", "no finite number"),
        ({"GUIDANCE_SCALE": "1e999"}, {}, "GUIDANCE_SCALE", "no finite number"),
        ({"PROMPT": b"\xff"}, {}, "PROMPT", "not valid Unicode"),
        ({"PROMPT": b" "}, {}, "PROMPT", "empty"),
        ({"PROMPT": 7}, {}, "PROMPT", "no text"),
        ({"FORMAT": b"gif"}, {}, "FORMAT", "none of: png"),
        ({"IMAGE": "text"}, {}, "IMAGE", "no file"),
        ({"STRENGTH": 0.5}, {}, "STRENGTH", "needs an image"),
        ({"MASK": b"m"}, {}, "MASK", "needs an image"),
        ({"LOSSLESS": b"maybe"}, {}, "LOSSLESS", "neither true nor false"),
        ({"STEPS": 2}, {"num_steps": 2}, "num_steps", "the same as STEPS"),
        ({}, {"priority": -1}, "priority", "no level"),
        ({}, {"timeout": -1}, "timeout", "not in 0 to"),
        ({}, {"timeout": "soon"}, "timeout", "no number"),
    ],
)
def test_what_is_wrong_is_said_of_the_name_that_the_caller_wrote(
    given: dict[str, Any], parameters: dict[str, Any], field: str, told: str
) -> None:
    with pytest.raises(FieldError, match=told) as caught:
        read(parameters, **given)
    assert caught.value.field == field


def test_errors_of_later_name_the_field_as_the_caller_did() -> None:
    asked = read(cfg_scale=7)
    for path, name in (("guidance_scale", "cfg_scale"), ("width_px", "WIDTH"), ("other", "other")):
        with pytest.raises(InvalidParameter) as caught, asked.named_as_written():
            raise InvalidParameter(path, "is refused")
        assert caught.value.field == name
