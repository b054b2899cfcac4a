"""What a caller sees when something is wrong."""

from __future__ import annotations

import json

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status

from darkroom.v1 import image_service_pb2_grpc
from darkroom.v1.image_service_pb2 import FillRequest, GenerateRequest
from darkroom_server.domain.errors import ModelNotFound, OutOfDeviceMemory, QueueFull, WorkerLost
from tests.integration.rpc.fake_engine import COMPLETED, image

PROMPT = GenerateRequest(prompt="a cat")


async def failure_of(call) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        async for _ in call:
            pass
    return caught.value


def detail(error: aio.AioRpcError, kind):
    """The one detail of the kind; fails when there is none, or more than one."""
    details = [any_ for any_ in rpc_status.from_call(error).details if any_.Is(kind.DESCRIPTOR)]
    assert len(details) == 1
    message = kind()
    details[0].Unpack(message)
    return message


def trailers(error: aio.AioRpcError) -> dict[str, object]:
    return dict(error.trailing_metadata())


async def test_a_bad_field_is_named(images):
    error = await failure_of(images.Generate(GenerateRequest(prompt="a cat", step_count=0)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    info = detail(error, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == ("INVALID_PARAMETER", "darkroom.v1")
    (violation,) = detail(error, error_details_pb2.BadRequest).field_violations
    assert (violation.field, violation.reason) == ("step_count", "INVALID_PARAMETER")
    assert violation.description == "0 is not between 1 and 500"


async def test_a_broken_image_is_named(engine, images):
    request = FillRequest(prompt="a cat")
    request.image.content = b"\x89PNG\r\n\x1a\n nothing of a picture"
    request.mask.content = b"\xff\xd8\xff"
    error = await failure_of(images.Fill(request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    (violation,) = detail(error, error_details_pb2.BadRequest).field_violations
    assert (violation.field, violation.reason) == ("image.content", "INVALID_IMAGE")
    assert engine.sessions[0].left.is_set()


async def test_an_unknown_model_is_a_resource_not_found(engine, images):
    engine.open_error = ModelNotFound("nope", "no model 'nope'; known: models/sdxl")
    error = await failure_of(images.Generate(PROMPT))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert "models/sdxl" in error.details()
    assert detail(error, error_details_pb2.ResourceInfo).resource_name == "nope"


async def test_a_full_queue_says_when_to_come_back(engine, images):
    engine.submit_errors = [QueueFull("8 requests wait already", retry_after_s=1.5)]
    error = await failure_of(images.Generate(PROMPT))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert detail(error, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() == 1500
    assert trailers(error)["grpc-retry-pushback-ms"] == "1500"


async def test_out_of_memory_forbids_retries(engine, images):
    engine.script = [OutOfDeviceMemory("too large for this device")]
    error = await failure_of(images.Generate(PROMPT))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert trailers(error)["grpc-retry-pushback-ms"] == "-1"


async def test_a_client_with_a_retry_policy_gets_past_a_full_queue(engine, server):
    """Only possible because nothing, not even headers, is sent before admission."""
    engine.submit_errors = [QueueFull("full", retry_after_s=0.01)]
    service_config = {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.01s",
                    "maxBackoff": "0.1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
    options = [("grpc.service_config", json.dumps(service_config))]
    async with aio.insecure_channel(f"127.0.0.1:{server.port}", options=options) as channel:
        stub = image_service_pb2_grpc.ImageServiceStub(channel)
        responses = [response async for response in stub.Generate(PROMPT)]
    assert responses[-1].event.HasField("completed")
    assert len(engine.sessions) == 2


@pytest.mark.parametrize(
    ("script", "submit_error"),
    [
        pytest.param([RuntimeError("secret: /etc/passwd")], None, id="while-running"),
        pytest.param([image(), KeyError("secret")], None, id="between-images"),
        pytest.param([COMPLETED], ValueError("secret"), id="at-admission"),
    ],
)
async def test_a_bug_says_nothing_but_the_request_id(engine, images, script, submit_error):
    engine.script, engine.submit_errors = script, [submit_error]
    with structlog.testing.capture_logs() as logs:
        error = await failure_of(images.Generate(PROMPT, metadata=(("x-request-id", "caller-7"),)))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(error)
    assert "caller-7" in error.details()
    assert detail(error, error_details_pb2.RequestInfo).request_id == "caller-7"
    assert detail(error, error_details_pb2.ErrorInfo).reason == "INTERNAL"
    assert engine.sessions[0].left.is_set()
    (logged,) = [line for line in logs if line["log_level"] == "error"]
    assert logged["exc_info"] is True
    assert logged["request_id"] == "caller-7"


async def test_the_server_goes_on_after_a_bug(engine, images):
    engine.script = [RuntimeError("boom")]
    await failure_of(images.Generate(PROMPT))
    engine.script = [COMPLETED]
    assert [r async for r in images.Generate(PROMPT)]


async def test_a_failed_job_names_the_request(engine, images):
    engine.script = [WorkerLost("the worker died 3 times on this request")]
    error = await failure_of(images.Generate(PROMPT))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert detail(error, error_details_pb2.RequestInfo).request_id


async def test_a_request_id_is_echoed_before_the_first_event(images):
    call = images.Generate(PROMPT, metadata=(("x-request-id", "caller-7"),))
    assert dict(await call.initial_metadata())["x-request-id"] == "caller-7"
    assert [r async for r in call]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param((), id="none"),
        pytest.param((("x-request-id", "a b"),), id="with-a-space"),
        pytest.param((("x-request-id", "a" * 129),), id="too-long"),
    ],
)
async def test_without_a_sane_request_id_one_is_made(images, sent):
    call = images.Generate(PROMPT, metadata=sent)
    made = dict(await call.initial_metadata())["x-request-id"]
    assert len(made) == 32
    assert [r async for r in call]


async def test_every_call_leaves_one_line(images):
    with structlog.testing.capture_logs() as logs:
        [accepted, *_] = [r.event async for r in images.Generate(PROMPT)]
        await failure_of(images.Generate(GenerateRequest()))
    lines = [line for line in logs if line["event"] == "call"]
    assert [line["code"] for line in lines] == ["OK", "INVALID_ARGUMENT"]
    assert all(line["method"] == "/darkroom.v1.ImageService/Generate" for line in lines)
    # By the job's id the worker's lines are found.
    job_id = accepted.accepted.generation_id
    assert (lines[0]["model"], lines[0]["job_id"]) == ("sdxl", job_id)


async def test_images_of_a_request_that_has_no_room_are_not_even_decoded(engine, images):
    engine.room_error = QueueFull("8 requests wait already", retry_after_s=1.5)
    request = FillRequest(prompt="a cat")
    request.image.content = request.mask.content = b"no picture at all"
    error = await failure_of(images.Fill(request))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert detail(error, error_details_pb2.ErrorInfo).reason == "QUEUE_FULL"
