"""Models as `darkroom.v1.Model`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from darkroom.v1.model_service_pb2 import Model, ModelVersion, ParameterSpec, ReferenceImages
from darkroom_server.domain.jobs import Task
from darkroom_server.domain.model_status import ModelStatus, VersionState, VersionStatus
from darkroom_server.domain.references import BESIDE_RULES, ReferenceRule, SizeSource
from darkroom_server.domain.vocabulary import Vocabulary
from darkroom_server.wire.model_messages import model_message
from tests.unit.example_models import FLUX_SCHNELL, SDXL, status

READY, LOADING, FAILED = VersionState.READY, VersionState.LOADING, VersionState.FAILED


def test_what_a_model_is() -> None:
    model = model_message(status(SDXL))
    assert model.name == "models/sdxl"
    assert (model.display_name, model.hub_id, model.license) == ("SDXL", "example/sdxl", "MIT")
    assert list(model.aliases) == ["xl"]
    assert list(model.tasks) == [Model.TASK_TEXT_TO_IMAGE, Model.TASK_FILL]
    assert list(model.schedulers) == list(SDXL.schedulers)
    assert model.default_scheduler == "EulerDiscreteScheduler"
    assert model.dimension_multiple_px == 8
    assert model.max_pixel_count == 512 * 1024
    assert model.max_image_count == 4


@pytest.mark.parametrize("state", VersionState, ids=lambda state: state.value)
def test_states_keep_their_names(state: VersionState) -> None:
    expected = Model.State.Value(f"STATE_{state.name}")
    model = model_message(status(SDXL, state))
    assert model.state == expected
    assert model.versions[0].state == expected


@pytest.mark.parametrize(
    ("states", "default_version", "shown"),
    [
        pytest.param((READY, LOADING), 1, "READY", id="the-default-while-a-newer-loads"),
        pytest.param((FAILED, LOADING), None, "LOADING", id="the-newest-when-none-serves"),
        pytest.param((FAILED, READY), 2, "READY", id="the-default-is-the-newest"),
    ],
)
def test_the_models_state_is_that_of_one_version(
    states: tuple[VersionState, ...], default_version: int | None, shown: str
) -> None:
    model = model_message(status(SDXL, *states, default_version=default_version))
    assert model.state == Model.State.Value(f"STATE_{shown}")
    assert model.default_version == (default_version or 0)
    assert [version.version for version in model.versions] == [2, 1]


def test_a_small_vocabulary_is_told_and_no_other() -> None:
    words = Vocabulary(words=("a", "cat"), example_prompts=("a cat",))
    told = model_message(status(replace(SDXL, vocabulary=words))).vocabulary
    assert (list(told.words), list(told.example_prompts)) == (["a", "cat"], ["a cat"])
    assert not model_message(status(SDXL)).HasField("vocabulary")


def test_a_model_without_versions_is_unloaded() -> None:
    model = model_message(ModelStatus(model=SDXL, versions=(), default_version=None))
    assert model.state == Model.STATE_UNLOADED


def test_a_version_in_full_and_the_sum_of_memory() -> None:
    version = VersionStatus(
        version=2,
        state=FAILED,
        message="out of memory",
        labels=("stable",),
        digest="ab",
        memory_bytes=10,
        loaded_at_s=1.5,
        weight_bytes=7,
    )
    older = VersionStatus(version=1, state=READY, memory_bytes=5)
    model = model_message(
        ModelStatus(
            model=SDXL, versions=(version, older), default_version=2, queued_request_count=3
        )
    )
    expected = ModelVersion(
        version=2,
        state=Model.STATE_FAILED,
        state_message="out of memory",
        labels=["stable"],
        digest="ab",
        memory_bytes=10,
        weight_bytes=7,
    )
    expected.load_time.FromMilliseconds(1500)
    assert model.versions[0] == expected
    assert not model.versions[1].HasField("load_time")
    assert (model.memory_bytes, model.queued_request_count) == (15, 3)
    assert model.state_message == "out of memory"


def test_parameters_are_those_the_model_takes() -> None:
    fields = {spec.field: spec.effective for spec in model_message(status(FLUX_SCHNELL)).parameters}
    assert fields == FLUX_SCHNELL.parameters


@pytest.mark.parametrize(
    "expected",
    [
        pytest.param(
            ParameterSpec(
                field="width_px",
                effective=True,
                min_value=64,
                max_value=1024,
                step_value=8,
                default_value=320,
            ),
            id="width",
        ),
        pytest.param(
            ParameterSpec(
                field="step_count",
                effective=True,
                min_value=1,
                max_value=100,
                step_value=1,
                default_value=20,
            ),
            id="steps",
        ),
        pytest.param(
            ParameterSpec(
                field="guidance_scale", effective=True, min_value=0, max_value=100, default_value=5
            ),
            id="guidance",
        ),
        pytest.param(ParameterSpec(field="negative_prompt", effective=True), id="text"),
    ],
)
def test_a_parameters_range(expected: ParameterSpec) -> None:
    model = replace(SDXL, defaults=replace(SDXL.defaults, width_px=320))
    assert expected in model_message(status(model)).parameters


def test_a_model_says_how_many_images_it_goes_by() -> None:
    rule = ReferenceRule(max_count=4, size_source=SizeSource.LAST)
    edits = replace(SDXL, tasks=frozenset({Task.TEXT_TO_IMAGE, Task.EDIT}), references=rule)
    told = model_message(status(edits))
    assert list(told.tasks) == [Model.TASK_TEXT_TO_IMAGE, Model.TASK_EDIT]
    assert told.reference_images == ReferenceImages(
        min_count=0, max_count=4, size_source=ReferenceImages.SIZE_SOURCE_LAST
    )
    only = model_message(status(replace(edits, tasks=frozenset({Task.EDIT}))))
    assert only.reference_images.min_count == 1
    # A configuration may take the task away.
    drawn = model_message(status(replace(edits, tasks=frozenset({Task.TEXT_TO_IMAGE}))))
    assert not drawn.HasField("reference_images")
    assert not model_message(status(SDXL)).HasField("reference_images")


def test_a_model_says_how_many_images_stand_beside_the_one_it_changes() -> None:
    for name, least in (("control_image", 1), ("image_reference", 0)):
        model = replace(SDXL, tasks=frozenset({Task.FILL}), references=BESIDE_RULES[name])
        told = model_message(status(model)).reference_images
        assert told == ReferenceImages(min_count=least, max_count=1, max_beside_count=1)


@pytest.mark.parametrize(("tasks", "most"), [({Task.EDIT, Task.FILL}, 2), ({Task.EDIT}, 0)])
def test_a_model_that_edits_says_how_many_stand_beside_an_image_to_fill(
    tasks: set[Task], most: int
) -> None:
    rule = ReferenceRule(max_count=4, fill_count=2)
    told = model_message(status(replace(SDXL, tasks=frozenset(tasks), references=rule)))
    assert told.reference_images.max_beside_count == most
