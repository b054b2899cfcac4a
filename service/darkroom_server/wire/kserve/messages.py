"""Inference requests and answers as messages, with contents that travel raw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from darkroom.kserve.v2 import inference_pb2 as pb
from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.wire.kserve.inference import InferAnswer
from darkroom_server.wire.kserve.inputs import InferCall, takes_many
from darkroom_server.wire.kserve.not_offered import require_offered
from darkroom_server.wire.kserve.tensors import (
    BYTES,
    MAX_ELEMENT_COUNT,
    Elements,
    OutputTensor,
    Scalar,
    as_number,
    bytes_elements,
    element_count,
    one_element,
    raw_content,
    require_few,
    require_one,
)

#: Inputs, outputs and parameters of a request; far more than there are names for.
MAX_NAME_COUNT: Final = 256

#: Where the elements of a datatype are that do not travel raw.
_FIELDS: Final = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
_Input = pb.ModelInferRequest.InferInputTensor


def call_of(message: pb.ModelInferRequest) -> InferCall:
    """The request that the message is; raises InvalidParameter naming the tensor."""
    raw = message.raw_input_contents
    require_few("inputs", len(message.inputs), MAX_NAME_COUNT, "entries")
    require_few("outputs", len(message.outputs), MAX_NAME_COUNT, "entries")
    require_few("parameters", len(message.parameters), MAX_NAME_COUNT, "entries")
    if raw and len(raw) != len(message.inputs):
        raise InvalidParameter(
            "raw_input_contents",
            f"{len(raw)} contents for {len(message.inputs)} inputs; send one for each, or none",
        )
    for output in message.outputs:
        require_few(output.name, len(output.parameters), MAX_NAME_COUNT, "parameters")
        require_offered(output.name, output.parameters)
    inputs: dict[str, Elements] = {}
    for at, tensor in enumerate(message.inputs):
        if tensor.name in inputs:
            raise InvalidParameter(tensor.name[:64], "came more than once")
        content = raw[at] if raw else None
        inputs[tensor.name] = _element(tensor, content)
    return InferCall(
        model=message.model_name,
        version=message.model_version,
        id=message.id,
        inputs=inputs,
        parameters=parameters_of(message.parameters),
        outputs=tuple(dict.fromkeys(output.name for output in message.outputs)),
    )


def _element(tensor: _Input, raw: bytes | None) -> Elements:
    require_few(tensor.name, len(tensor.parameters), MAX_NAME_COUNT, "parameters")
    require_offered(tensor.name, tensor.parameters)
    if tensor.datatype == BYTES and takes_many(tensor.name):
        return _many(tensor, raw)
    if raw is not None:
        return one_element(tensor.name, tensor.datatype, tensor.shape, raw)
    require_one(tensor.name, tensor.shape)
    field = _FIELDS.get(tensor.datatype)
    if field is None:
        known = ", ".join(_FIELDS)
        raise InvalidParameter(tensor.name, f"the datatype of its contents is none of: {known}")
    elements: Sequence[Scalar] = getattr(tensor.contents, field)
    if len(elements) != 1:
        raise InvalidParameter(tensor.name, f"{field} has {len(elements)} elements, and 1 is taken")
    return as_number(elements[0], tensor.datatype)


def _many(tensor: _Input, raw: bytes | None) -> tuple[Scalar, ...]:
    if raw is not None:
        return bytes_elements(tensor.name, tensor.shape, raw)
    require_few(tensor.name, len(tensor.contents.bytes_contents), MAX_ELEMENT_COUNT, "elements")
    elements: tuple[bytes, ...] = tuple(tensor.contents.bytes_contents)
    if len(elements) != element_count(tensor.name, tensor.shape):
        text = f"bytes_contents has {len(elements)} elements, and the shape {list(tensor.shape)}"
        raise InvalidParameter(tensor.name, text)
    return elements


def parameters_of(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Scalar]:
    """Those that are set."""
    found: dict[str, Scalar] = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is not None:
            found[name] = getattr(parameter, choice)
    return found


def infer_response(answer: InferAnswer) -> pb.ModelInferResponse:
    """The answer as a message."""
    return pb.ModelInferResponse(
        model_name=answer.model,
        model_version=str(answer.version),
        id=answer.id,
        parameters={name: _parameter(value) for name, value in answer.parameters.items()},
        outputs=[_output(output) for output in answer.outputs],
        raw_output_contents=[raw_content(output) for output in answer.outputs],
    )


def _output(output: OutputTensor) -> pb.ModelInferResponse.InferOutputTensor:
    return pb.ModelInferResponse.InferOutputTensor(
        name=output.name, datatype=output.datatype, shape=[len(output.elements)]
    )


def _parameter(value: Scalar) -> pb.InferParameter:
    match value:
        case bool():
            return pb.InferParameter(bool_param=value)
        case int():
            return pb.InferParameter(int64_param=value)
        case float():
            return pb.InferParameter(double_param=value)
        case str():
            return pb.InferParameter(string_param=value)
        case bytes():
            return pb.InferParameter(string_param=value.decode("utf-8", "replace"))
