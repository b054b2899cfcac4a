"""Bodies of the inference protocol over HTTP: JSON, and behind it the tensors that travel raw."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import Response
from fastapi.responses import JSONResponse

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.gateway.bodies import parse_object
from darkroom_server.gateway.pictures import picture_bytes
from darkroom_server.parameters.parameter import Kind
from darkroom_server.parameters.table import PARAMETERS
from darkroom_server.wire.kserve.inference import InferAnswer
from darkroom_server.wire.kserve.inputs import NAMES, InferCall, takes_many, whole
from darkroom_server.wire.kserve.not_offered import require_offered
from darkroom_server.wire.kserve.tensors import (
    BYTES,
    MAX_ELEMENT_COUNT,
    Elements,
    OutputTensor,
    Scalar,
    bytes_elements,
    element_count,
    one_element,
    raw_content,
    require_datatype,
    require_few,
    require_one,
)

#: How many bytes of a body are JSON, where others follow.
JSON_LENGTH_HEADER: Final = "inference-header-content-length"
_BINARY_SIZE: Final = "binary_data_size"
_BINARY: Final = "binary_data"
_ALL_BINARY: Final = "binary_data_output"
#: What of a body of `generate` is no input.
_OF_THE_CALL: Final = ("id", "parameters", "model_name", "model_version")


class InferBody:
    """An inference request as it came, and how its caller wants the answer."""

    def __init__(self, body: bytearray, json_length: str | None, model: str, version: str) -> None:
        """Reads it; raises FieldError. CPU-bound."""
        length_bytes = len(body) if json_length is None else whole(json_length, JSON_LENGTH_HEADER)
        if not 0 <= length_bytes <= len(body):
            raise InvalidParameter(
                JSON_LENGTH_HEADER, f"{length_bytes} bytes of JSON, in a body of {len(body)}"
            )
        found = parse_object(body[:length_bytes])
        outputs = [_object(one, "outputs") for one in _list(found.get("outputs"), "outputs")]
        parameters = _parameters(found.get("parameters"))
        self._all_binary = parameters.get(_ALL_BINARY) is True
        self._binary = dict(map(_output_asked, outputs))
        self.call = InferCall(
            model=model,
            version=version,
            id=_id(found.get("id")),
            inputs=dict(_inputs(found, memoryview(body)[length_bytes:])),
            parameters=parameters,
            outputs=tuple(self._binary),
        )

    def answer(self, answer: InferAnswer) -> Response:
        """The answer, with raw tensors behind the JSON where they are wanted so."""
        raw = [self._raw(output) for output in answer.outputs]
        document = _described(answer) | {
            "outputs": [
                _output(output, content)
                for output, content in zip(answer.outputs, raw, strict=True)
            ]
        }
        contents = [content for content in raw if content is not None]
        if not contents:
            return JSONResponse(document)
        head = json.dumps(document, separators=(",", ":")).encode()
        return Response(
            b"".join((head, *contents)),
            media_type="application/octet-stream",
            headers={JSON_LENGTH_HEADER: str(len(head))},
        )

    def _raw(self, output: OutputTensor) -> bytes | None:
        is_raw = self._binary.get(output.name)
        return raw_content(output) if (self._all_binary if is_raw is None else is_raw) else None


def generate_call(body: bytearray, model: str, version: str) -> InferCall:
    """The body of `generate`: inputs by their names, and parameters.

    CPU-bound; raises FieldError.
    """
    found = parse_object(body)
    inputs: dict[str, Elements] = {}
    for name, value in found.items():
        if name not in _OF_THE_CALL and value is not None:
            inputs[name] = _many(name, value) if takes_many(name) else _element(name, value)
    parameters = _parameters(found.get("parameters"))
    return InferCall(
        model=model,
        version=version,
        id=_id(found.get("id")),
        inputs=inputs,
        parameters=parameters,
    )


def generated(answer: InferAnswer) -> dict[str, Any]:
    """An answer of `generate`: outputs by their names, a list where there are several elements."""
    document = _described(answer)
    for output in answer.outputs:
        elements = [_json_element(one) for one in output.elements]
        document[output.name] = elements[0] if len(elements) == 1 else elements
    return document


def _inputs(found: Mapping[str, Any], binary: memoryview) -> Iterator[tuple[str, Elements]]:
    names: set[str] = set()
    at = 0
    for one in _list(found.get("inputs"), "inputs"):
        tensor = _object(one, "inputs")
        name = _name(tensor)
        if name in names:
            raise InvalidParameter(name[:64], "came more than once")
        names.add(name)
        shape = [whole(size, name) for size in _list(tensor.get("shape"), name)]
        datatype = str(tensor.get("datatype", ""))
        parameters = _object(tensor.get("parameters") or {}, name)
        require_offered(name, parameters)
        size = parameters.get(_BINARY_SIZE)
        if size is None:
            elements = _flat(tensor.get("data"))
            yield name, _data(name, datatype, shape, elements)
            continue
        size_bytes = whole(size, name)
        if not 0 <= size_bytes <= len(binary) - at:
            raise InvalidParameter(
                name, f"{_BINARY_SIZE} is {size_bytes}, and {len(binary) - at} bytes are left"
            )
        content = bytes(binary[at : at + size_bytes])
        at += size_bytes
        if datatype == BYTES and takes_many(name):
            yield name, bytes_elements(name, shape, content)
        else:
            yield name, one_element(name, datatype, shape, content)
    if at != len(binary):
        raise InvalidParameter("inputs", f"{len(binary) - at} bytes of the body belong to no input")


def _data(name: str, datatype: str, shape: list[int], elements: list[Any]) -> Elements:
    require_datatype(name, datatype)
    is_file = datatype == "UINT8" and len(elements) != 1
    if takes_many(name):
        require_few(name, len(elements), MAX_ELEMENT_COUNT, "elements")
    elif not is_file:
        require_one(name, shape)
    if len(elements) != element_count(name, shape):
        text = f"data has {len(elements)} elements, and the shape {shape}"
        raise InvalidParameter(name, text)
    if takes_many(name):
        return _many(name, elements)
    if not is_file:
        return _element(name, elements[0])
    try:
        return bytes(elements)
    except (TypeError, ValueError) as error:
        raise InvalidParameter(name, "an element is not from 0 to 255") from error


def _many(name: str, value: Any) -> tuple[Scalar, ...]:
    return tuple(_element(name, one) for one in _flat(value))


def _flat(data: Any) -> list[Any]:
    """The elements of lists in lists, row by row."""
    found, waiting = [], [data]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting.extend(reversed(one))
        elif one is not None:
            found.append(one)
    return found


def _element(name: str, value: Any) -> Scalar:
    """A value from JSON; a picture is a file's base64."""
    elements = _flat(value)
    if len(elements) != 1 or not isinstance(elements[0], bool | int | float | str):
        raise InvalidParameter(name[:64], "is not one value")
    parameter = PARAMETERS.get(NAMES.get(name.lower(), ""))
    is_picture = parameter is not None and parameter.kind in (Kind.PICTURE, Kind.PICTURES)
    if is_picture and isinstance(elements[0], str):
        return picture_bytes(elements[0], name)
    element: Scalar = elements[0]
    return element


def _parameters(found: Any) -> dict[str, Scalar]:
    parameters = _object(found or {}, "parameters")
    return {name: _element(name, value) for name, value in parameters.items() if value is not None}


def _output_asked(output: Mapping[str, Any]) -> tuple[str, Any]:
    """The name of an output, and whether it is to travel raw, if that is said."""
    name, parameters = _name(output), _object(output.get("parameters") or {}, "parameters")
    require_offered(name, parameters)
    return name, parameters.get(_BINARY)


def _output(output: OutputTensor, raw: bytes | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": output.name,
        "datatype": output.datatype,
        "shape": [len(output.elements)],
    }
    if raw is not None:
        return document | {"parameters": {_BINARY_SIZE: len(raw)}}
    if output.datatype == BYTES:
        document["parameters"] = {"content_encoding": "base64"}
    return document | {"data": [_json_element(one) for one in output.elements]}


def _json_element(element: Scalar) -> Any:
    return base64.b64encode(element).decode() if isinstance(element, bytes) else element


def _described(answer: InferAnswer) -> dict[str, Any]:
    document: dict[str, Any] = {
        "model_name": answer.model,
        "model_version": str(answer.version),
        "parameters": answer.parameters,
    }
    return document | ({"id": answer.id} if answer.id else {})


def _id(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidParameter("id", "is no text")
    return value


def _name(tensor: Mapping[str, Any]) -> str:
    name = tensor.get("name")
    if not isinstance(name, str):
        raise InvalidParameter("name", "an input or output has no name")
    return name


def _list(value: Any, name: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidParameter(name[:64], "is no list")
    return value


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidParameter(name[:64], "is no object")
    return value
