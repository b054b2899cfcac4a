from __future__ import annotations

import pytest
from google.protobuf.message import Message

from darkroom.kserve.v2 import inference_pb2 as pb
from darkroom.v1.image_service_pb2 import FillRequest, GenerateRequest
from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.wire.field_count import MAX_FIELD_COUNT, require_few_fields

MANY = MAX_FIELD_COUNT + 1


def check(message: Message, more: bytes = b"") -> None:
    require_few_fields(message.SerializeToString() + more, message.DESCRIPTOR)


def settings() -> Message:
    message = pb.LogSettingsRequest()
    for number in range(MANY):
        message.settings[str(number)].bool_param = True
    return message


def levels() -> Message:
    message = pb.TraceSettingRequest()
    message.settings["trace_level"].value.extend([""] * MANY)
    return message


def elements() -> Message:
    message = pb.ModelInferRequest()
    message.inputs.add().contents.bytes_contents.extend([b""] * MANY)
    return message


def references() -> Message:
    message = GenerateRequest()
    for _ in range(MANY):
        message.reference_images.add()
    return message


@pytest.mark.parametrize("make", [settings, levels, elements, references])
def test_what_is_many_is_refused_wherever_it_is(make: object) -> None:
    """Before it is parsed: to put two million entries into a map takes seconds."""
    assert callable(make)
    with pytest.raises(InvalidParameter, match=f"more than {MAX_FIELD_COUNT} fields"):
        check(make())


def test_fields_that_nobody_knows_count_too() -> None:
    unknown = b"\xf8\x7f\x01" * MANY
    with pytest.raises(InvalidParameter, match="more than"):
        check(FillRequest(prompt="x"), unknown)
    groups = b"\xfb\x7f\xfc\x7f" * MANY
    with pytest.raises(InvalidParameter, match="more than"):
        check(FillRequest(prompt="x"), groups)


def test_what_is_large_and_not_many_is_let_through() -> None:
    """Pictures, and numbers that are packed: both are one field."""
    fill = FillRequest(prompt="x" * 100_000)
    fill.image.content = bytes(1 << 20)
    check(fill)
    tensor = pb.ModelInferRequest()
    one = tensor.inputs.add(name="IMAGE", datatype="UINT8", shape=[1 << 20])
    one.contents.uint_contents.extend([7] * (1 << 20))
    tensor.raw_input_contents.append(bytes(1 << 20))
    check(tensor)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\xff" * 20_000, id="a-number-without-an-end"),
        pytest.param(b"\x07" * 20_000, id="no-such-kind-of-field"),
        pytest.param(b"\x0a\x01x" * 3 + b"\x2a" + b"\xa0\x9c\x01" + bytes(20_000), id="no-field-0"),
        pytest.param(elements().SerializeToString() + b"\x07", id="after-many-inside"),
        pytest.param(elements().SerializeToString() + b"\x80", id="many-inside-and-cut-off"),
    ],
)
def test_what_is_no_message_is_refused_before_it_is_parsed(content: bytes) -> None:
    """The parser would see the fault after it has read all that comes before."""
    with pytest.raises(InvalidParameter):
        require_few_fields(content, pb.ModelInferRequest.DESCRIPTOR)
