"""What a clumsy or hostile caller gets, over a real channel: parameters, bytes, metadata, calls."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from darkroom.v1 import image_pb2
from darkroom.v1.image_service_pb2 import GenerateRequest, GenerateResponse
from darkroom.v1.model_service_pb2 import GetModelRequest, ListModelsRequest
from darkroom_client import InvalidRequest, ModelNotFound
from tests.e2e.conftest import MAX_RECEIVE_BYTES, Service
from tests.e2e.refusals import INTERNALS, TIMEOUT_S, refusal

GENERATE = "/darkroom.v1.ImageService/Generate"
IGNORE = image_pb2.UNSUPPORTED_PARAMETER_POLICY_IGNORE
OFF_GRID_REFUSED = image_pb2.DIMENSION_POLICY_REJECT
NAN, INFINITE = float("nan"), float("inf")


def asked(**fields: Any) -> GenerateRequest:
    return GenerateRequest(**({"model": "anything", "prompt": "a house"} | fields))


def generate(service: Service, **fields: Any) -> list[GenerateResponse]:
    return list(service.images.Generate(asked(**fields), timeout=TIMEOUT_S))


INVALID = [
    pytest.param({"prompt": ""}, "prompt", id="empty-prompt"),
    pytest.param({"prompt": " \n\t "}, "prompt", id="blank-prompt"),
    pytest.param({"prompt": "\u3000"}, "prompt", id="blank-in-another-script"),
    pytest.param({"prompt": "a" * 32_769}, "prompt", id="long-prompt"),
    pytest.param({"prompt": "é" * 16_384 + "a"}, "prompt", id="long-in-bytes-not-characters"),
    pytest.param({"negative_prompt": "a" * 32_769}, "negative_prompt", id="long-negative"),
    pytest.param({"width_px": 0}, "width_px", id="no-width"),
    pytest.param({"height_px": -64}, "height_px", id="negative-height"),
    pytest.param({"width_px": 15}, "width_px", id="width-below-the-least"),
    pytest.param({"width_px": 8193}, "width_px", id="width-above-every-model"),
    pytest.param({"height_px": 2**31 - 1}, "height_px", id="largest-height-there-is"),
    pytest.param({"model": "narrow", "height_px": 136}, "height_px", id="height-above-the-model"),
    pytest.param(
        {"width_px": 65, "dimension_policy": OFF_GRID_REFUSED}, "width_px", id="off-grid-refused"
    ),
    pytest.param({"step_count": 0}, "step_count", id="no-steps"),
    pytest.param({"step_count": -1}, "step_count", id="negative-steps"),
    pytest.param({"step_count": 501}, "step_count", id="steps-above-every-model"),
    pytest.param({"model": "narrow", "step_count": 21}, "step_count", id="steps-above-the-model"),
    pytest.param({"guidance_scale": NAN}, "guidance_scale", id="guidance-nan"),
    pytest.param({"guidance_scale": INFINITE}, "guidance_scale", id="guidance-infinite"),
    pytest.param({"guidance_scale": -INFINITE}, "guidance_scale", id="guidance-minus-infinite"),
    pytest.param({"guidance_scale": -0.1}, "guidance_scale", id="guidance-negative"),
    pytest.param({"guidance_scale": 100.1}, "guidance_scale", id="guidance-too-large"),
    pytest.param({"seed": -1}, "seed", id="negative-seed"),
    pytest.param({"seed": 2**63 - 1, "image_count": 2}, "seed", id="seed-of-the-last-too-large"),
    pytest.param({"image_count": -1}, "image_count", id="negative-count"),
    pytest.param({"image_count": 17}, "image_count", id="count-above-every-model"),
    pytest.param({"model": "narrow", "image_count": 3}, "image_count", id="count-above-the-model"),
    pytest.param({"scheduler": "x" * 257}, "scheduler", id="scheduler-name-without-end"),
    pytest.param({"model": "m" * 257}, "model", id="model-name-without-end"),
    pytest.param({"version": "9" * 257}, "version", id="version-without-end"),
    pytest.param({"output": {"format": 99}}, "output.format", id="unknown-format"),
    pytest.param({"output": {"format": 2, "quality": 0}}, "output.quality", id="quality-0"),
    pytest.param({"output": {"format": 2, "quality": 101}}, "output.quality", id="quality-101"),
    pytest.param({"output": {"quality": 50}}, "output.quality", id="quality-of-png"),
    pytest.param({"output": {"lossless": True}}, "output.lossless", id="lossless-png"),
    pytest.param(
        {"preview": {"interval_step_count": -1}}, "preview.interval_step_count", id="preview"
    ),
    pytest.param({"priority": 99}, "priority", id="unknown-priority"),
    pytest.param({"dimension_policy": 99}, "dimension_policy", id="unknown-policy"),
]


@pytest.mark.parametrize(("fields", "field"), INVALID)
def test_a_bad_parameter_is_named(service: Service, fields: dict[str, Any], field: str) -> None:
    refused = refusal(lambda: generate(service, **fields))
    assert (refused.code, refused.reason, refused.field) == (
        "INVALID_ARGUMENT",
        "INVALID_PARAMETER",
        field,
    )


@pytest.mark.parametrize("prompt", ["a" * 32_768, "é" * 16_384], ids=["ascii", "two-bytes-each"])
def test_the_longest_prompt_is_taken(service: Service, prompt: str) -> None:
    assert generate(service, prompt=prompt)[-1].event.HasField("completed")


def test_an_unknown_scheduler_is_told_the_compatible_ones(service: Service) -> None:
    refused = refusal(lambda: generate(service, scheduler="FakeSchedular"))
    assert (refused.reason, refused.field) == ("INVALID_PARAMETER", "scheduler")
    assert "did you mean FakeScheduler?" in refused.message
    assert "compatible: FakeScheduler" in refused.message


@pytest.mark.parametrize("name", ["nothing", "models/nothing", "../anything", "anything/1", "\0"])
def test_an_unknown_model_is_told_the_known_ones(service: Service, name: str) -> None:
    refused = refusal(lambda: generate(service, model=name))
    assert (refused.code, refused.reason) == ("NOT_FOUND", "MODEL_NOT_FOUND")
    assert "known models: anything, narrow" in refused.message


@pytest.mark.parametrize("version", ["2", "0", "-1", "01", "1.0", "latest", "\u0661", "9" * 200])
def test_an_unknown_version_is_told_the_serving_ones(service: Service, version: str) -> None:
    refused = refusal(lambda: generate(service, version=version))
    assert (refused.code, refused.reason) == ("NOT_FOUND", "MODEL_NOT_FOUND")
    assert "(serving: 1; labels: stable)" in refused.message


UNSUPPORTED = [
    pytest.param({"negative_prompt": "rain"}, "negative_prompt", id="negative-prompt"),
    pytest.param({"guidance_scale": 0.0}, "guidance_scale", id="guidance-0-is-a-value"),
    pytest.param({"scheduler": "FakeScheduler"}, "scheduler", id="scheduler"),
]


@pytest.mark.parametrize(("fields", "field"), UNSUPPORTED)
def test_what_the_model_cannot_honour_is_refused(
    service: Service, fields: dict[str, Any], field: str
) -> None:
    refused = refusal(lambda: generate(service, model="narrow", **fields))
    assert (refused.code, refused.reason, refused.field) == (
        "INVALID_ARGUMENT",
        "UNSUPPORTED_PARAMETER",
        field,
    )


@pytest.mark.parametrize(("fields", "field"), UNSUPPORTED)
def test_or_left_out_with_a_warning(service: Service, fields: dict[str, Any], field: str) -> None:
    events = generate(service, model="narrow", unsupported_parameter_policy=IGNORE, **fields)
    [warning] = events[0].event.accepted.warnings
    assert (warning.reason, warning.field) == ("PARAMETER_IGNORED", field)
    assert events[-1].event.HasField("completed")


def test_a_size_off_the_grid_is_rounded_down_with_a_warning(service: Service) -> None:
    events = [one.event for one in generate(service, width_px=71, height_px=64)]
    [warning] = events[0].accepted.warnings
    assert (warning.reason, warning.field) == ("DIMENSION_ROUNDED", "width_px")
    [image] = [event.image for event in events if event.HasField("image")]
    assert (image.width_px, image.height_px) == (64, 64)


def test_the_client_raises_its_own_errors(service: Service) -> None:
    with pytest.raises(InvalidRequest) as invalid:
        service.client.generate("a house", model="anything", steps=0)
    assert [violation.field for violation in invalid.value.violations] == ["step_count"]
    with pytest.raises(ModelNotFound, match="known models: anything, narrow"):
        service.client.generate("a house", model="nothing")


def test_bad_requests_for_models(service: Service) -> None:
    empty = refusal(lambda: [service.models.GetModel(GetModelRequest(), timeout=TIMEOUT_S)])
    assert (empty.code, empty.field) == ("INVALID_ARGUMENT", "name")
    unknown = GetModelRequest(name="../../etc")
    gone = refusal(lambda: [service.models.GetModel(unknown, timeout=TIMEOUT_S)])
    assert gone.reason == "MODEL_NOT_FOUND"
    backwards = ListModelsRequest(page_size=-1)
    page = refusal(lambda: [service.models.ListModels(backwards, timeout=TIMEOUT_S)])
    assert (page.code, page.field) == ("INVALID_ARGUMENT", "page_size")


def test_a_message_above_the_limit_is_refused_by_the_transport(service: Service) -> None:
    refused = refusal(lambda: generate(service, prompt="a" * MAX_RECEIVE_BYTES))
    assert refused.code == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_compressed_message_is_refused_before_it_is_unpacked(
    service: Service, algorithm: grpc.Compression
) -> None:
    before_kib = peak_memory_kib(service)
    request = asked(prompt="a" * 200_000_000)
    refused = refusal(
        lambda: service.images.Generate(request, compression=algorithm, timeout=TIMEOUT_S)
    )
    assert refused.code == "UNIMPLEMENTED"
    assert "disabled" in refused.message
    assert peak_memory_kib(service) - before_kib < 100_000


def peak_memory_kib(service: Service) -> int:
    with open(f"/proc/{service.server.process.pid}/status") as status:
        [line] = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1])


def send(service: Service, content: bytes, method: str = GENERATE) -> list[bytes]:
    return list(service.channel.unary_stream(method)(content, timeout=TIMEOUT_S))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\xff\xff\xff", id="no-message"),
        pytest.param(b"\x12\xff\xff\xff\xff\x0f", id="length-of-4-gib"),
        pytest.param(b"\x12\x05abc", id="cut-off"),
        pytest.param(b"\x12\x02\xff\xfe", id="text-that-is-not-utf-8"),
        pytest.param(b"\x5b" * 100_000, id="nested-without-end"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="http"),
        pytest.param(b'{"prompt": "a house"}', id="json"),
    ],
)
def test_bytes_that_are_no_message_are_the_callers_mistake(
    service: Service, content: bytes
) -> None:
    refused = refusal(lambda: send(service, content))
    assert (refused.code, refused.reason, refused.field) == (
        "INVALID_ARGUMENT",
        "INVALID_PARAMETER",
        "request",
    )


def test_a_malformed_message_of_a_method_with_one_answer(service: Service) -> None:
    method = service.channel.unary_unary("/darkroom.v1.ModelService/GetModel")
    refused = refusal(lambda: [method(b"\xff", timeout=TIMEOUT_S)])
    assert (refused.code, refused.field) == ("INVALID_ARGUMENT", "request")


def test_a_malformed_message_in_a_stream(service: Service) -> None:
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    method = service.channel.stream_stream(path)
    refused = refusal(lambda: method(iter([b"\xff"]), timeout=TIMEOUT_S))
    assert (refused.code, refused.field) == ("INVALID_ARGUMENT", "request")


@settings(
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=st.binary(max_size=200), fill=st.booleans())
@example(content=b"", fill=False)
def test_random_bytes_are_answered(service: Service, content: bytes, fill: bool) -> None:
    method = "/darkroom.v1.ImageService/Fill" if fill else GENERATE
    refused = refusal(lambda: send(service, content, method))
    assert refused.code in ("INVALID_ARGUMENT", "NOT_FOUND")
    assert refused.reason


@pytest.mark.parametrize(
    "method",
    ["/darkroom.v1.ImageService/Draw", "/darkroom.v2.ImageService/Generate", "/", "/a/b/c"],
)
def test_an_unknown_method_is_unimplemented(service: Service, method: str) -> None:
    assert refusal(lambda: send(service, b"", method)).code == "UNIMPLEMENTED"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        pytest.param("call-7", True, id="sane"),
        pytest.param("x" * 128, True, id="longest"),
        pytest.param("x" * 129, False, id="too-long"),
        pytest.param("", False, id="empty"),
        pytest.param("two words", False, id="blank"),
        pytest.param('{"level": "error"}', False, id="forged-log-entry"),
    ],
)
def test_an_odd_request_id_is_replaced(service: Service, sent: str, kept: bool) -> None:
    call = service.images.Generate(
        asked(), timeout=TIMEOUT_S, metadata=(("x-request-id", sent), ("x-odd-bin", b"\xff\0"))
    )
    [echoed] = [value for key, value in call.initial_metadata() if key == "x-request-id"]
    assert list(call)[-1].event.HasField("completed")
    assert (echoed == sent) is kept
    assert echoed


def test_thousands_of_cancelled_calls_leave_nothing_behind(service: Service) -> None:
    for i in range(2000):
        call = service.images.Generate(asked(step_count=500), timeout=TIMEOUT_S)
        if i % 20 == 0:
            next(iter(call))
        call.cancel()
    assert service.client.generate("a house", model="anything", seed=5).images[0].seed == 5
    # Each look is a call of its own, so that the server has time to see the last ones go.
    looks = (service.client.get_model("anything").queued_request_count for _ in range(500))
    assert 0 in looks


@pytest.mark.parametrize(
    "message",
    [
        "Traceback (most recent call last)",
        "Unexpected <class 'google.protobuf.message.DecodeError'>: Error parsing message",
        "cannot open /usr/lib/models/unet",
        "images.py, line 7",
        "UnidentifiedImageError",
    ],
)
def test_internals_would_be_noticed(message: str) -> None:
    assert INTERNALS.search(message)
