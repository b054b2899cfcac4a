"""The table of request parameters agrees with the values that it is about."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from darkroom_server.domain.jobs import ImageSpec, Task
from darkroom_server.domain.models import Defaults, Limits
from darkroom_server.parameters.parameter import Default, Kind, Parameter, Support
from darkroom_server.parameters.table import PARAMETERS, listed_names
from darkroom_server.requests.image_requests import (
    AdapterRequest,
    FillInput,
    ImageRequest,
    OutputRequest,
    image_request,
    value_of,
)

EVERY = pytest.mark.parametrize("parameter", PARAMETERS.values(), ids=list(PARAMETERS))
#: Which model, the request itself does not know.
OF_REQUESTS = [one for one in PARAMETERS.values() if one.path not in ("model", "version")]


def names_of(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def some_value(parameter: Parameter) -> object:
    match parameter.kind:
        case Kind.TEXT | Kind.NAME:
            return "said"
        case Kind.WHOLE:
            return 7
        case Kind.NUMBER:
            return 0.25
        case Kind.FLAG:
            return True
        case Kind.CHOICE:
            return list(parameter.choices.values())[-1]
        case Kind.PICTURE:
            return b"picture"
        case Kind.PICTURES:
            return (b"picture", b"another")
        case Kind.ADAPTERS:
            return (AdapterRequest("ink", weight=0.5),)


@pytest.mark.parametrize("parameter", OF_REQUESTS, ids=lambda one: one.path)
def test_what_was_said_of_a_parameter_is_found_again(parameter: Parameter) -> None:
    value = some_value(parameter)
    said = {"": {}, "preview": {"interval_step_count": 1}}
    said[parameter.group] = {**said.get(parameter.group, {}), parameter.leaf: value}
    request = image_request(Task.FILL, said)
    assert value_of(request, parameter) == value


@EVERY
def test_a_models_own_bounds_and_defaults_have_a_place(parameter: Parameter) -> None:
    own = {parameter.model_lowest, parameter.model_highest, parameter.model_step} - {""}
    assert own <= names_of(Limits)
    if parameter.default is Default.MODEL:
        assert parameter.path in names_of(Defaults)


@EVERY
def test_numbers_have_bounds_and_choices_have_words(parameter: Parameter) -> None:
    is_number = parameter.kind in (Kind.WHOLE, Kind.NUMBER)
    assert (parameter.lowest is not None and parameter.highest is not None) is is_number
    assert bool(parameter.choices) is (parameter.kind is Kind.CHOICE)


def test_what_models_honour_reaches_the_worker() -> None:
    """What a model can refuse and no spec had would be taken and do nothing."""
    elsewhere = {"image_count": "seeds", "seed": "seeds", "preserve_unmasked": "fill"}
    for parameter in PARAMETERS.values():
        if parameter.can_be_refused and parameter.path != "strength":
            assert elsewhere.get(parameter.path, parameter.name) in names_of(ImageSpec)


def test_no_name_means_two_things() -> None:
    names = Counter(name for one in PARAMETERS.values() for name in one.http)
    names.update(Counter(one.python for one in PARAMETERS.values() if one.python))
    twice = {name for name, count in names.items() if count > 1}
    same = {name for one in PARAMETERS.values() for name in one.http if name == one.python}
    assert twice == same


def test_every_value_of_a_request_is_in_the_table() -> None:
    inside = {"output": OutputRequest, "fill": FillInput}
    own = names_of(ImageRequest) - {"task", "source", *inside}
    own |= {f"output.{name}" for name in names_of(OutputRequest)} | names_of(FillInput)
    assert own == {one.path if one.group == "output" else one.name for one in OF_REQUESTS}


def test_models_list_what_is_for_their_tasks() -> None:
    drawn = listed_names({Task.TEXT_TO_IMAGE})
    assert not {"image", "mask", "strength"} & {*drawn}
    assert {"image", "strength"} <= {*listed_names({Task.IMAGE_TO_IMAGE})}
    assert "mask" not in listed_names({Task.IMAGE_TO_IMAGE})
    assert {*listed_names({Task.FILL})} == {*listed_names(Task)} - {"reference_images"}
    edits = {*listed_names({Task.EDIT})}
    assert edits == {*drawn, "reference_images"}
    assert listed_names(Task, {Support.STEPS}) == ("feature_cache", "adapters")


def test_what_holds_where_nothing_is_said_is_what_is_run() -> None:
    request = image_request(
        Task.TEXT_TO_IMAGE, {"preview": {"interval_step_count": 1}, "feature_cache": {}}
    )
    for path in ("preview.max_edge_px", "feature_cache.threshold", "image_count"):
        parameter = PARAMETERS[path]
        assert parameter.unset.split()[0] == str(value_of(request, parameter))
    for parameter in PARAMETERS.values():
        if parameter.choices and parameter.unset:
            asked = value_of(image_request(Task.FILL, {}), parameter)
            assert parameter.choices[parameter.unset] is asked
