"""Protos, command line and Python client have the parameters of the table, and no others."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any, Literal

import click
import pytest
import typer
from google.protobuf.descriptor import Descriptor, EnumDescriptor

from darkroom.v1.image_service_pb2 import FillRequest, GenerateRequest
from darkroom_client import requests
from darkroom_server.cli.main import app
from darkroom_server.domain.jobs import Task
from darkroom_server.parameters.parameter import Kind, Parameter
from darkroom_server.parameters.table import PARAMETERS

OPTIONS = typing.get_type_hints(requests.GenerateOptions) | typing.get_type_hints(
    requests.FillOptions
)
TYPES: dict[Kind, type] = {
    Kind.TEXT: str,
    Kind.NAME: str,
    Kind.WHOLE: int,
    Kind.NUMBER: float,
    Kind.FLAG: bool,
}
CLICK_TYPES = {Kind.WHOLE: "integer", Kind.NUMBER: "float"}
#: Options of the command line and the client that say a choice as a yes or no.
SWITCHES = ("mask_polarity", "unsupported_parameter_policy", "dimension_policy")


def fields_of(message: Descriptor, before: str = "") -> Iterator[tuple[str, Any]]:
    """The fields that hold values, by their paths."""
    for field in message.fields:
        path = f"{before}{field.name}"
        if field.message_type is not None and not field.is_repeated:
            yield from fields_of(field.message_type, f"{path}.")
        else:
            yield path, field


GENERATE, FILL = (dict(fields_of(kind.DESCRIPTOR)) for kind in (GenerateRequest, FillRequest))


def test_the_requests_have_the_fields_of_the_table() -> None:
    assert GENERATE.keys() | FILL.keys() == PARAMETERS.keys()
    edits = {path for path, one in PARAMETERS.items() if one.tasks == {Task.EDIT}}
    # Some models take them beside the image to fill.
    assert FILL.keys() == PARAMETERS.keys() - (edits - {"reference_images"})


@pytest.mark.parametrize("parameter", PARAMETERS.values(), ids=list(PARAMETERS))
def test_only_fill_has_what_only_filling_needs(parameter: Parameter) -> None:
    assert (parameter.path in GENERATE) is (parameter.tasks != {Task.FILL})


@pytest.mark.parametrize("path", [path for path, one in PARAMETERS.items() if one.choices])
def test_choices_are_the_values_of_the_protos_enum(path: str) -> None:
    numbers: EnumDescriptor = FILL[path].enum_type
    prefix = numbers.values_by_number[0].name.removesuffix("UNSPECIFIED")
    members = {one.name for one in PARAMETERS[path].choices.values()}
    said = {f"{prefix}{name}" for name in members | {"UNSPECIFIED"}}
    assert said == set(numbers.values_by_name)


def test_the_python_client_has_the_options_of_the_table() -> None:
    plain = {one.python: path for path, one in PARAMETERS.items() if one.kind is not Kind.PICTURE}
    assert plain == requests.FIELDS
    assert OPTIONS.keys() - {"image"} == plain.keys() - {"prompt"}


@pytest.mark.parametrize("name", sorted(OPTIONS.keys() - {"image"}))
def test_the_python_clients_options_are_typed_as_the_table_says(name: str) -> None:
    parameter = PARAMETERS[requests.FIELDS[name]]
    said = [kind for kind in _kinds(OPTIONS[name]) if kind is not type(None)]
    if parameter.kind is Kind.ADAPTERS:
        assert said == [str, float]  # weights by name
    elif parameter.kind is Kind.PICTURES:
        assert {str, bytes} < {*said}
    elif parameter.kind is not Kind.CHOICE:
        assert said == [TYPES[parameter.kind]]
    elif said != [bool]:
        assert {*said} <= parameter.choices.keys()
        assert len(said) == len({*parameter.choices.values()})


def _kinds(hint: Any) -> Iterator[Any]:
    """Types, and words of a Literal."""
    inner = typing.get_args(hint)
    if not inner:
        yield hint
    for one in inner:
        yield from (one,) if typing.get_origin(hint) is Literal else _kinds(one)


@pytest.mark.parametrize("name", ["generate", "fill"])
def test_the_command_line_has_the_options_of_the_table(name: str) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group)
    command = group.get_command(click.Context(group), name)
    assert command is not None
    options = {each: one for one in command.params for each in (*one.opts, *one.secondary_opts)}
    tasks = {Task.FILL} if name == "fill" else {*Task} - {Task.FILL}
    for path, parameter in PARAMETERS.items():
        if not parameter.flag or not parameter.tasks & tasks or path == "image.content":
            continue
        option = options[parameter.flag]
        if parameter.flag == "--size":
            continue  # two fields in one
        assert (parameter.flag_help or parameter.meaning) in option.help
        if parameter.kind in CLICK_TYPES:
            assert option.type.name.removesuffix(" range") == CLICK_TYPES[parameter.kind]
        if parameter.kind is Kind.CHOICE and path not in SWITCHES:
            assert {*option.type.choices} <= parameter.choices.keys()
