"""What the inputs and parameters of an inference request mean: fields of the table, by many names.

An input is called as in the Python client, in capitals; the names of `darkroom.v1` and of the HTTP
dialects are taken as well, in any case, as inputs and as parameters alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from darkroom_server.domain.errors import FieldError, InvalidImage, InvalidParameter
from darkroom_server.domain.jobs import Priority, Task
from darkroom_server.domain.models import ModelInfo, ModelRef
from darkroom_server.parameters.parameter import Kind, Parameter
from darkroom_server.parameters.table import PARAMETERS
from darkroom_server.requests.image_requests import ImageRequest, image_request
from darkroom_server.requests.limits import check_limits, check_name
from darkroom_server.wire.adapter_values import adapters_of
from darkroom_server.wire.kserve.tensors import BYTES, Elements, Scalar

#: The model is named beside the inputs.
_OF_THE_CALL = ("model", "version")
_IMAGE, _REFERENCES = "image.content", "reference_images"
_FIELDS: Final = {path: one for path, one in PARAMETERS.items() if path not in _OF_THE_CALL}

#: Parameters of Triton's, which keep their meaning.
PRIORITY: Final = "priority"
TIMEOUT: Final = "timeout"
FINAL_RESPONSE: Final = "triton_final_response"
EMPTY_FINAL_RESPONSE: Final = "triton_enable_empty_final_response"
#: Taken and left alone: there are no sequences, and contents are as each transport says.
_LEFT_ALONE = ("sequence_", "triton_", "binary_data", "classification")
#: Levels are numbered from the highest; 0 is the default one.
_LEVELS: Final = {0: Priority.NORMAL, 1: Priority.HIGH, 2: Priority.NORMAL}
_MAX_LEVEL: Final = 2**32
_MAX_TIMEOUT_US: Final = 7 * 24 * 3600 * 1_000_000


def tensor_name(parameter: Parameter) -> str:
    """What the input of a field is called."""
    is_own = parameter.path.endswith("_policy") or not parameter.python
    return (parameter.leaf if is_own else parameter.python).upper()


def tensor_datatype(parameter: Parameter) -> str:
    """What its element is."""
    match parameter.kind:
        case Kind.TEXT | Kind.NAME | Kind.CHOICE | Kind.ADAPTERS | Kind.PICTURE | Kind.PICTURES:
            return BYTES

        case Kind.WHOLE:
            return "UINT64" if parameter.path == "seed" else "INT32"
        case Kind.NUMBER:
            return "FP32"
        case Kind.FLAG:
            return "BOOL"


def _names() -> dict[str, str]:
    found: dict[str, str] = {}
    for path, one in _FIELDS.items():
        plain = () if one.group else (one.leaf,)
        for name in (tensor_name(one).lower(), path, *plain, *one.http):
            found.setdefault(name, path)
    return found


#: The field of every name, in small letters.
NAMES: Final[Mapping[str, str]] = _names()


def takes_many(name: str) -> bool:
    """Whether the input of that name has any number of elements."""
    parameter = _FIELDS.get(NAMES.get(name.lower(), ""))
    return parameter is not None and parameter.kind is Kind.PICTURES


def inputs_of(model: ModelInfo) -> tuple[Parameter, ...]:
    """The inputs that a model takes, in the table's order."""
    return tuple(
        one
        for one in _FIELDS.values()
        if (one.tasks & model.tasks or one.name in model.parameters)
        and (one.name in model.parameters or not one.can_be_refused)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InferCall:
    """One request as it came, on whatever transport. A picture is a file's bytes.

    `outputs` are those that are wanted, none: all.
    """

    model: str
    version: str
    id: str
    inputs: Mapping[str, Elements]
    parameters: Mapping[str, Scalar]
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a call asks for. `written` maps fields to the names that the caller wrote."""

    ref: ModelRef
    request: ImageRequest
    timeout_s: float | None
    ends_empty: bool
    written: Mapping[str, str]

    @contextmanager
    def named_as_written(self) -> Iterator[None]:
        """Errors of the block name fields as the caller did."""
        with _renamed(self.written):
            yield


def read_call(call: InferCall, tasks: frozenset[Task]) -> Asked:
    """Reads a call for a model that does the tasks; raises FieldError as the caller named it."""
    values: dict[str, Any] = {}
    written: dict[str, str] = {}
    for name, value in (*call.inputs.items(), *_others(call.parameters)):
        path = NAMES.get(name.lower())
        if path is None:
            known = ", ".join(map(tensor_name, _FIELDS.values()))
            raise InvalidParameter(name[:64], f"no such input; known: {known}")
        if path in written:
            raise InvalidParameter(name, f"means the same as {written[path]}; send one of them")
        written[path] = name
        values[path] = _value(_FIELDS[path], value, name)
    _take_for_references(values, written, tasks)
    priority = call.parameters.get(PRIORITY)
    if priority is not None:
        values["priority"], written["priority"] = _priority(priority), PRIORITY
    with _renamed(written):
        request = image_request(_task(values, tasks), _said(values))
        check_name("model", call.model)
        check_name("version", call.version)
        check_limits(request)
    return Asked(
        ref=ModelRef(call.model, call.version),
        request=request,
        timeout_s=_timeout_s(call.parameters.get(TIMEOUT)),
        ends_empty=_flag(call.parameters.get(EMPTY_FINAL_RESPONSE, False), EMPTY_FINAL_RESPONSE),
        written=written,
    )


@contextmanager
def _renamed(written: Mapping[str, str]) -> Iterator[None]:
    try:
        yield
    except FieldError as error:
        # Of `reference_images[1].content` the input's name and the place.
        field, mark, place = error.field.partition("[")
        own = PARAMETERS.get(field)
        shown = written.get(field, tensor_name(own) if own else field)
        error.field = f"{shown}{mark}{place.removesuffix('.content')}"
        raise


def _take_for_references(
    values: dict[str, Any], written: dict[str, str], tasks: frozenset[Task]
) -> None:
    """An image by itself is a reference for a model that begins with none."""
    if Task.EDIT not in tasks or Task.IMAGE_TO_IMAGE in tasks:
        return
    of_image = [path for path in values if _FIELDS[path].needs_image]
    if of_image == [_IMAGE] and _REFERENCES not in values:
        values[_REFERENCES] = (values.pop(_IMAGE),)
        written[_REFERENCES] = written[_IMAGE]


def _others(parameters: Mapping[str, Scalar]) -> Iterator[tuple[str, Scalar]]:
    """The parameters that are fields of the request."""
    for name, value in parameters.items():
        if name not in (PRIORITY, TIMEOUT) and not name.startswith(_LEFT_ALONE):
            yield name, value


def _task(values: Mapping[str, Any], tasks: frozenset[Task]) -> Task:
    """What the pictures sent along make of the request; raises InvalidParameter, InvalidImage."""
    if _IMAGE not in values:
        for path in values:
            if _FIELDS[path].needs_image:
                raise InvalidParameter(path, "it needs an image")
        return Task.EDIT if _REFERENCES in values else Task.TEXT_TO_IMAGE
    only_fills = Task.FILL in tasks and Task.IMAGE_TO_IMAGE not in tasks
    asks_to_fill = any(path in values for path, one in _FIELDS.items() if one.tasks == {Task.FILL})
    return Task.FILL if asks_to_fill or only_fills else Task.IMAGE_TO_IMAGE


def _said(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    said: dict[str, dict[str, Any]] = {"": {}}
    for path, value in values.items():
        one = _FIELDS[path]
        said.setdefault(one.group, {})[one.leaf] = value
    return said


def _value(parameter: Parameter, given: Elements, name: str) -> Any:
    """The element as the field's kind; raises InvalidParameter, InvalidImage."""
    if parameter.kind is Kind.PICTURES:
        return tuple(_file(one, name) for one in (given if isinstance(given, tuple) else (given,)))
    if isinstance(given, tuple):
        raise InvalidParameter(name, f"{len(given)} elements, and 1 is taken")
    return _one_value(parameter, given, name)


def _file(value: Scalar, name: str) -> bytes:
    if not isinstance(value, bytes):
        raise InvalidImage(name, "is no file; send an encoded image as an input of BYTES")
    return value


def _one_value(parameter: Parameter, value: Scalar, name: str) -> Any:
    match parameter.kind:
        case Kind.TEXT | Kind.NAME:
            return _text(value, name)
        case Kind.CHOICE:
            word = _text(value, name).lower()
            if word not in parameter.choices:
                raise InvalidParameter(name, f"is none of: {', '.join(parameter.choices)}")
            return parameter.choices[word]
        case Kind.WHOLE:
            return whole(value, name)
        case Kind.NUMBER:
            return _number(value, name)
        case Kind.FLAG:
            return _flag(value, name)
        case Kind.PICTURE | Kind.PICTURES:
            return _file(value, name)
        case Kind.ADAPTERS:
            # One element: `style=0.8, object`.
            named = [word.strip() for word in _text(value, name).split(",")]
            return adapters_of([word for word in named if word], name) or ()


def _text(value: Scalar, name: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        raise InvalidParameter(name, "is no text")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidParameter(name, "the text is not valid Unicode") from error


def _number(value: Scalar, name: str) -> float:
    """Also as text: some clients cannot send a number that is not whole."""
    try:
        if isinstance(value, bool):
            raise ValueError
        found = float(value)
    except (ValueError, OverflowError) as error:
        raise InvalidParameter(name, "is no number") from error
    if not math.isfinite(found):
        raise InvalidParameter(name, "is no finite number")
    return found


def whole(value: Scalar, name: str) -> int:
    """An integer, also as text; raises InvalidParameter."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    if isinstance(text, str) and text.strip().removeprefix("-").isdecimal() and text.isascii():
        # Longer ones are out of every range, and int() refuses the very long.
        return int(text) if len(text) <= 20 else 10**20
    found = _number(value, name)
    if found != int(found):
        raise InvalidParameter(name, "is no whole number")
    return int(found)


def _flag(value: Scalar, name: str) -> bool:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    words = {True: True, False: False, "true": True, "false": False}
    wanted = text.lower() if isinstance(text, str) else text
    if wanted not in words:
        raise InvalidParameter(name, "is neither true nor false")
    return words[wanted]


def _priority(value: Scalar) -> Priority:
    """A level from 1, the highest; or a word."""
    choices = PARAMETERS["priority"].choices
    word = value.lower() if isinstance(value, str) else ""
    if word in choices:
        return Priority[choices[word].name]
    level = whole(value, PRIORITY)
    if not 0 <= level <= _MAX_LEVEL:
        raise InvalidParameter(PRIORITY, f"{level} is no level: 1 is the highest, 0 the default")
    return _LEVELS.get(level, Priority.LOW)


def _timeout_s(value: Scalar | None) -> float | None:
    """How long the request may take; Triton's unit is the microsecond, and 0 sets none."""
    if value is None:
        return None
    timeout_us = whole(value, TIMEOUT)
    if not 0 <= timeout_us <= _MAX_TIMEOUT_US:
        raise InvalidParameter(TIMEOUT, f"{timeout_us} µs is not in 0 to {_MAX_TIMEOUT_US} µs")
    return timeout_us / 1e6 if timeout_us else None
