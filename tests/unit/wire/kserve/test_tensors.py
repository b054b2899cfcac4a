from __future__ import annotations

import struct

import pytest

from darkroom.kserve.v2 import inference_pb2 as pb
from darkroom_server.domain.errors import InvalidParameter, NotOffered
from darkroom_server.wire.kserve.messages import MAX_NAME_COUNT, call_of
from darkroom_server.wire.kserve.tensors import (
    BYTES,
    OutputTensor,
    as_number,
    bytes_elements,
    one_element,
    raw_content,
)


@pytest.mark.parametrize(
    ("datatype", "raw", "element"),
    [
        (BYTES, b"\x03\x00\x00\x00cat", b"cat"),
        (BYTES, b"\x00\x00\x00\x00", b""),
        ("BOOL", b"\x01", True),
        ("UINT8", b"\xff", 255),
        ("INT32", b"\xfe\xff\xff\xff", -2),
        ("UINT64", b"\x00\x00\x00\x00\x00\x00\x00\x80", 2**63),
        ("FP16", struct.pack("<e", 1.5), 1.5),
        ("FP32", struct.pack("<f", 7.1), 7.1),
        ("FP64", struct.pack("<d", 7.1), 7.1),
    ],
)
@pytest.mark.parametrize("shape", [[1], [1, 1], []])
def test_an_element_is_read_whatever_surrounds_it(
    datatype: str, raw: bytes, element: object, shape: list[int]
) -> None:
    assert one_element("X", datatype, shape, raw) == element


@pytest.mark.parametrize("value", [0.1, 7.1, 3.5, 1e-7, 33.333332, 1.0000001, 0.0])
def test_a_number_of_32_bits_is_the_shortest_that_is_written_so(value: float) -> None:
    narrow = struct.unpack("<f", struct.pack("<f", value))[0]
    assert as_number(narrow, "FP32") == value


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "told"),
    [
        pytest.param(BYTES, [1], b"\x04\x00\x00\x00cat", "length in four bytes", id="cut-off"),
        pytest.param(BYTES, [1], b"\x03\x00", "length in four bytes", id="no-length"),
        pytest.param(BYTES, [1], b"\x01\x00\x00\x00cat", "length in four bytes", id="too-long"),
        pytest.param(BYTES, [2], b"", "2 elements and 1 is taken", id="two-elements"),
        pytest.param(BYTES, [0], b"", "0 elements and 1 is taken", id="none"),
        pytest.param(BYTES, [-1], b"", "negative dimension", id="negative"),
        pytest.param("INT32", [1], b"\x00", "where INT32 takes 4", id="short-number"),
        pytest.param("UINT8", [9], b"\x00", "not 9 of UINT8", id="short-file"),
        pytest.param("BF16", [1], b"\x00\x00", "is none of: BOOL", id="unknown"),
        pytest.param("", [1], b"", "is none of: BOOL", id="no-datatype"),
    ],
)
def test_what_is_wrong_is_said_of_the_tensor(
    datatype: str, shape: list[int], raw: bytes, told: str
) -> None:
    with pytest.raises(InvalidParameter, match=told) as caught:
        one_element("MASK", datatype, shape, raw)
    assert caught.value.field == "MASK"


def test_a_file_may_be_a_tensor_of_its_bytes() -> None:
    assert one_element("IMAGE", "UINT8", [4], b"\x89PNG") == b"\x89PNG"


def test_outputs_are_laid_out_as_they_are_read() -> None:
    pictures = OutputTensor(name="IMAGE", datatype=BYTES, elements=(b"a", b"", b"bcd"))
    assert raw_content(pictures) == b"\x01\0\0\0a\0\0\0\0\x03\0\0\0bcd"
    seeds = OutputTensor(name="SEED", datatype="UINT64", elements=(7, 2**63))
    assert raw_content(seeds) == struct.pack("<QQ", 7, 2**63)


def test_elements_of_bytes_follow_each_other() -> None:
    raw = b"\x03\x00\x00\x00cat\x00\x00\x00\x00\x01\x00\x00\x00x"
    assert bytes_elements("X", [3], raw) == (b"cat", b"", b"x")
    assert bytes_elements("X", [0], b"") == ()


@pytest.mark.parametrize(
    ("shape", "raw"),
    [
        pytest.param([2], b"\x03\x00\x00\x00cat", id="too-few"),
        pytest.param([1], b"\x00\x00\x00\x00\x00\x00\x00\x00", id="too-many"),
        pytest.param([1], b"\x03\x00\x00", id="half-a-length"),
        pytest.param([1], b"\xff\xff\xff\xffcat", id="cut-off"),
        pytest.param([-1], b"\x00\x00\x00\x00", id="negative"),
    ],
)
def test_elements_that_do_not_fit_their_tensor_are_refused(shape: list[int], raw: bytes) -> None:
    with pytest.raises(InvalidParameter) as caught:
        bytes_elements("X", shape, raw)
    assert caught.value.field == "X"


def test_elements_are_counted_while_they_are_read() -> None:
    """Four bytes are an element: a message of the largest size has room for millions."""
    with pytest.raises(InvalidParameter, match="at most 10 are taken"):
        bytes_elements("X", [1 << 18], bytes(4 << 18))


def test_the_dimensions_of_a_shape_are_counted_before_they_are_multiplied() -> None:
    with pytest.raises(InvalidParameter, match="1000000 dimensions"):
        one_element("X", BYTES, [2**62] * 1_000_000, b"")


@pytest.mark.parametrize("field", ["inputs", "outputs", "parameters"])
def test_names_are_counted_before_any_is_read(field: str) -> None:
    message = pb.ModelInferRequest(model_name="m")
    for number in range(MAX_NAME_COUNT + 1):
        if field == "parameters":
            message.parameters[str(number)].bool_param = True
        else:
            getattr(message, field).add(name=str(number))
    with pytest.raises(InvalidParameter, match=f"has {MAX_NAME_COUNT + 1} entries") as caught:
        call_of(message)
    assert caught.value.field == field


@pytest.mark.parametrize("field", ["inputs", "outputs"])
@pytest.mark.parametrize(
    ("parameter", "told"),
    [("shared_memory_region", "X: Shared memory is"), ("classification", "X: Classification is")],
)
def test_what_a_tensor_is_not_offered_is_said(field: str, parameter: str, told: str) -> None:
    message = pb.ModelInferRequest(model_name="m")
    getattr(message, field).add(name="X").parameters[parameter].string_param = "r"
    with pytest.raises(NotOffered, match=told):
        call_of(message)


def test_an_output_named_twice_is_one() -> None:
    message = pb.ModelInferRequest(model_name="m")
    for name in ("SEED", "IMAGE", "SEED"):
        message.outputs.add(name=name)
    assert call_of(message).outputs == ("SEED", "IMAGE")
