"""Which error a status becomes."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from darkroom_client import errors
from darkroom_client.status import error_of, read_status


def error_from(code: grpc.StatusCode, message: str, *details: Message) -> errors.DarkroomError:
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    metadata = [("x-other", "1"), ("grpc-status-details-bin", status.SerializeToString())]
    return error_of(read_status(code, message, metadata if details else None, "sent"), "host:1")


def info(reason: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason)


def retry(seconds: int) -> error_details_pb2.RetryInfo:
    detail = error_details_pb2.RetryInfo()
    detail.retry_delay.FromSeconds(seconds)
    return detail


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        pytest.param("INVALID_ARGUMENT", [info("WRONG_TASK")], errors.InvalidRequest, id="invalid"),
        pytest.param("NOT_FOUND", [info("MODEL_NOT_FOUND")], errors.ModelNotFound, id="not-found"),
        pytest.param("FAILED_PRECONDITION", [], errors.ModelUnavailable, id="model-unavailable"),
        pytest.param("UNAVAILABLE", [info("QUEUE_FULL")], errors.QueueFull, id="queue-full"),
        pytest.param("UNAVAILABLE", [info("DRAINING")], errors.Unavailable, id="draining"),
        pytest.param("UNAVAILABLE", [], errors.Unavailable, id="no-server"),
        pytest.param(
            "RESOURCE_EXHAUSTED", [info("RATE_LIMITED"), retry(9)], errors.RateLimited, id="rate"
        ),
        pytest.param(
            "RESOURCE_EXHAUSTED",
            [info("INSUFFICIENT_CREDITS")],
            errors.InsufficientCredits,
            id="credits",
        ),
        pytest.param(
            "RESOURCE_EXHAUSTED", [info("OUT_OF_DEVICE_MEMORY")], errors.ServerError, id="memory"
        ),
        pytest.param("RESOURCE_EXHAUSTED", [], errors.InvalidRequest, id="message-too-large"),
        pytest.param("UNAUTHENTICATED", [], errors.Unauthenticated, id="unauthenticated"),
        pytest.param("PERMISSION_DENIED", [], errors.PermissionDenied, id="permission"),
        pytest.param("DEADLINE_EXCEEDED", [], errors.DeadlineExceeded, id="deadline"),
        pytest.param("CANCELLED", [], errors.Cancelled, id="cancelled"),
        pytest.param("INTERNAL", [], errors.ServerError, id="internal"),
        pytest.param("UNKNOWN", [], errors.ServerError, id="unknown"),
        pytest.param("UNIMPLEMENTED", [], errors.ServerError, id="unimplemented"),
    ],
)
def test_every_status_has_its_error(
    code: str, details: list[Message], kind: type[errors.DarkroomError]
) -> None:
    error = error_from(grpc.StatusCode[code], "why", *details)
    assert type(error) is kind
    assert "why" in str(error)


def test_an_invalid_request_names_its_fields() -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="step_count", description="must be 1 to 500", reason="RANGE")
    bad.field_violations.add(field="seed", description="must not be negative")
    error = error_from(grpc.StatusCode.INVALID_ARGUMENT, "bad", info("INVALID_PARAMETER"), bad)
    assert isinstance(error, errors.InvalidRequest)
    assert error.violations[0] == errors.FieldViolation("step_count", "must be 1 to 500", "RANGE")
    assert str(error) == "step_count: must be 1 to 500; seed: must not be negative"
    assert error.reason == "INVALID_PARAMETER"


def test_the_servers_advice_when_to_retry_is_kept() -> None:
    error = error_from(grpc.StatusCode.UNAVAILABLE, "no room", info("QUEUE_FULL"), retry(2))
    assert isinstance(error, errors.QueueFull)
    assert error.retry_after_s == 2.0
    assert str(error) == "no room (try again in 2 s)"


def test_a_server_error_tells_the_id_to_report() -> None:
    named = error_details_pb2.RequestInfo(request_id="abc")
    error = error_from(grpc.StatusCode.INTERNAL, "broken", info("INTERNAL"), named)
    assert error.request_id == "abc"
    assert str(error) == "broken (request abc)"


def test_without_details_the_id_is_the_one_that_was_sent() -> None:
    assert error_from(grpc.StatusCode.INTERNAL, "broken").request_id == "sent"


def test_a_server_that_is_not_there_is_named() -> None:
    assert "host:1" in str(error_from(grpc.StatusCode.UNAVAILABLE, "connection refused"))


def test_a_message_of_several_lines_becomes_one() -> None:
    assert "\n" not in str(error_from(grpc.StatusCode.INTERNAL, "one\n  two"))


def test_details_that_do_not_parse_are_ignored() -> None:
    metadata = [("grpc-status-details-bin", b"\xff\xff")]
    status = read_status(grpc.StatusCode.NOT_FOUND, "no such model", metadata, "sent")
    assert isinstance(error_of(status, "host:1"), errors.ModelNotFound)
