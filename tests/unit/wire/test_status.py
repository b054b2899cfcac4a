"""One table for all errors, and the statuses made from it."""

from __future__ import annotations

import inspect

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from darkroom_server.domain import errors
from darkroom_server.domain.errors import DarkroomError
from darkroom_server.wire.status import (
    ERROR_KINDS,
    internal_status,
    kind_of,
    retry_pushback_ms,
    status_of,
)

LEAVES = [
    member
    for _, member in inspect.getmembers(errors, inspect.isclass)
    if issubclass(member, DarkroomError) and not member.__subclasses__()
]
EXAMPLES: list[DarkroomError] = [
    errors.InvalidParameter("width_px", "bad"),
    errors.UnsupportedParameter("negative_prompt", "bad"),
    errors.InvalidImage("image.content", "bad"),
    errors.ImageTooLarge("image.content", "bad"),
    errors.RequestTooLarge("bad"),
    errors.BodyTimeout("bad"),
    errors.UnknownRoute("bad"),
    errors.MethodNotAllowed("bad"),
    errors.UnsupportedEncoding("bad"),
    errors.NotOffered("bad"),
    errors.WrongTask("model", "bad"),
    errors.ModelNotFound("nope", "bad"),
    errors.ModelUnavailable("sdxl", "bad"),
    errors.VersionNotReady("sdxl", "bad"),
    errors.NotEnoughMemory("sdxl", "bad"),
    errors.ControlRefused("sdxl", "bad"),
    errors.QueueFull("bad", retry_after_s=2),
    errors.Draining("bad", retry_after_s=2),
    errors.ReplicasLost("bad", retry_after_s=2),
    errors.WorkersKilled("bad", retry_after_s=2),
    errors.InvalidApiKey("bad"),
    errors.PermissionDenied("bad"),
    errors.RateLimited("bad", key_id="one", retry_after_s=2),
    errors.InsufficientCredits("bad", key_id="one"),
    errors.LimitsUnavailable("bad", retry_after_s=2),
    errors.DeadlineExceeded("bad"),
    errors.Cancelled("bad"),
    errors.LoadCancelled("bad"),
    errors.ResultsUnread("bad"),
    errors.OutOfDeviceMemory("bad"),
    errors.GenerationFailed("bad"),
    errors.WorkerLost("bad"),
]
#: code, HTTP status, reason, retryable, details beside ErrorInfo.
TABLE = {
    errors.InvalidParameter: ("INVALID_ARGUMENT", 400, "INVALID_PARAMETER", False, "BadRequest"),
    errors.UnsupportedParameter: (
        "INVALID_ARGUMENT", 400, "UNSUPPORTED_PARAMETER", False, "BadRequest",
    ),
    errors.InvalidImage: ("INVALID_ARGUMENT", 400, "INVALID_IMAGE", False, "BadRequest"),
    errors.RequestTooLarge: ("RESOURCE_EXHAUSTED", 413, "REQUEST_TOO_LARGE", False, None),
    errors.BodyTimeout: ("DEADLINE_EXCEEDED", 408, "BODY_TIMEOUT", False, None),
    errors.UnknownRoute: ("UNIMPLEMENTED", 404, "ROUTE_NOT_FOUND", False, None),
    errors.MethodNotAllowed: ("UNIMPLEMENTED", 405, "METHOD_NOT_ALLOWED", False, None),
    errors.UnsupportedEncoding: ("UNIMPLEMENTED", 415, "UNSUPPORTED_ENCODING", False, None),
    errors.NotOffered: ("UNIMPLEMENTED", 501, "NOT_OFFERED", False, None),
    errors.ImageTooLarge: ("INVALID_ARGUMENT", 400, "IMAGE_TOO_LARGE", False, "BadRequest"),
    errors.WrongTask: ("INVALID_ARGUMENT", 400, "WRONG_TASK", False, "BadRequest"),
    errors.ModelNotFound: ("NOT_FOUND", 404, "MODEL_NOT_FOUND", False, "ResourceInfo"),
    errors.ModelUnavailable: (
        "FAILED_PRECONDITION", 409, "MODEL_UNAVAILABLE", False, "PreconditionFailure",
    ),
    errors.VersionNotReady: (
        "FAILED_PRECONDITION", 409, "VERSION_NOT_READY", False, "PreconditionFailure",
    ),
    errors.NotEnoughMemory: (
        "FAILED_PRECONDITION", 409, "NOT_ENOUGH_MEMORY", False, "PreconditionFailure",
    ),
    errors.ControlRefused: (
        "FAILED_PRECONDITION", 409, "MODEL_CONTROL", False, "PreconditionFailure",
    ),
    errors.QueueFull: ("UNAVAILABLE", 429, "QUEUE_FULL", True, "RetryInfo"),
    errors.Draining: ("UNAVAILABLE", 503, "DRAINING", True, "RetryInfo"),
    errors.ReplicasLost: ("UNAVAILABLE", 503, "REPLICAS_LOST", True, "RetryInfo"),
    errors.WorkersKilled: ("UNAVAILABLE", 503, "WORKERS_KILLED", True, "RetryInfo"),
    errors.InvalidApiKey: ("UNAUTHENTICATED", 401, "INVALID_API_KEY", False, None),
    errors.PermissionDenied: ("PERMISSION_DENIED", 403, "PERMISSION_DENIED", False, None),
    errors.RateLimited: (
        "RESOURCE_EXHAUSTED", 429, "RATE_LIMITED", True, "QuotaFailure RetryInfo",
    ),
    errors.InsufficientCredits: (
        "RESOURCE_EXHAUSTED", 429, "INSUFFICIENT_CREDITS", False, "QuotaFailure",
    ),
    errors.LimitsUnavailable: ("UNAVAILABLE", 500, "LIMITS_UNAVAILABLE", True, "RetryInfo"),
    errors.DeadlineExceeded: ("DEADLINE_EXCEEDED", 504, "DEADLINE_EXCEEDED", False, None),
    errors.Cancelled: ("CANCELLED", 499, "CANCELLED", False, None),
    errors.LoadCancelled: ("CANCELLED", 409, "LOAD_CANCELLED", False, None),
    errors.ResultsUnread: ("RESOURCE_EXHAUSTED", 408, "RESULTS_UNREAD", False, None),
    errors.OutOfDeviceMemory: (
        "RESOURCE_EXHAUSTED", 500, "OUT_OF_DEVICE_MEMORY", False, None,
    ),
    errors.GenerationFailed: ("INTERNAL", 500, "GENERATION_FAILED", False, "RequestInfo"),
    errors.WorkerLost: ("INTERNAL", 500, "WORKER_LOST", False, "RequestInfo"),
}  # fmt: skip


def details_of(status: status_pb2.Status) -> dict[str, object]:
    names = [any_.TypeName().removeprefix("google.rpc.") for any_ in status.details]
    assert len(set(names)) == len(names), "each kind of detail at most once"
    found = {}
    for name, any_ in zip(names, status.details, strict=True):
        message = getattr(error_details_pb2, name)()
        any_.Unpack(message)
        found[name] = message
    return found


def test_every_leaf_of_the_tree_has_a_row_and_nothing_else_has() -> None:
    assert set(ERROR_KINDS) == set(LEAVES)


def test_every_leaf_has_an_example_here() -> None:
    assert {type(example) for example in EXAMPLES} == set(LEAVES)


def test_reasons_are_told_apart() -> None:
    assert len({kind.reason for kind in ERROR_KINDS.values()}) == len(ERROR_KINDS)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_the_table(error: DarkroomError) -> None:
    code, http_status, reason, retryable, detail = TABLE[type(error)]
    kind = kind_of(error)
    assert (kind.code.name, kind.http_status, kind.reason, kind.retryable) == (
        code,
        http_status,
        reason,
        retryable,
    )
    status = status_of(error, "request-1")
    assert status.code == grpc.StatusCode[code].value[0]
    assert "bad" in status.message
    details = details_of(status)
    assert set(details) == {"ErrorInfo", *(detail or "").split()}
    assert (details["ErrorInfo"].domain, details["ErrorInfo"].reason) == ("darkroom.v1", reason)


def test_a_field_is_named_three_times() -> None:
    status = status_of(errors.InvalidParameter("output.quality", "101 is too much"), "r")
    details = details_of(status)
    assert status.message == "output.quality: 101 is too much"
    assert details["ErrorInfo"].metadata["field"] == "output.quality"
    (violation,) = details["BadRequest"].field_violations
    assert violation.field == "output.quality"
    assert violation.description == "101 is too much"
    assert violation.reason == "INVALID_PARAMETER"


def test_a_quota_names_the_key_by_its_id() -> None:
    error = errors.RateLimited("too many", key_id="k7", retry_after_s=2.5)
    details = details_of(status_of(error, "r"))
    (violation,) = details["QuotaFailure"].violations
    assert (violation.subject, violation.description) == ("key:k7", "too many")
    assert details["RetryInfo"].retry_delay.ToMilliseconds() == 2500


def test_bugs_and_failures_carry_the_request_id() -> None:
    for status in (status_of(errors.WorkerLost("lost"), "r-7"), internal_status("r-7")):
        assert details_of(status)["RequestInfo"].request_id == "r-7"


@pytest.mark.parametrize(
    ("error", "pushback_ms"),
    [
        pytest.param(errors.QueueFull("full", retry_after_s=0.25), 250, id="queue-full"),
        pytest.param(errors.Draining("bye", retry_after_s=1), 1000, id="draining"),
        pytest.param(
            errors.RateLimited("fast", key_id="one", retry_after_s=3), 3000, id="rate-limited"
        ),
        pytest.param(
            errors.RateLimited("fast", key_id="one", retry_after_s=60), -1, id="rate-limited-long"
        ),
        pytest.param(errors.InsufficientCredits("poor", key_id="one"), -1, id="no-credits"),
        pytest.param(errors.OutOfDeviceMemory("big"), -1, id="never-for-out-of-memory"),
        pytest.param(errors.ResultsUnread("slow"), -1, id="never-for-what-was-not-read"),
        pytest.param(errors.WorkerLost("lost"), None, id="up-to-the-client"),
    ],
)
def test_when_clients_may_retry(error: DarkroomError, pushback_ms: int | None) -> None:
    assert retry_pushback_ms(error) == pushback_ms


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_a_status_fits_the_headers_of_a_stock_client(error: DarkroomError) -> None:
    error.args = ("é" * 100_000,)
    if isinstance(error, errors.ModelNotFound | errors.ModelPrecondition):
        error.name = "é" * 100_000
    status = status_of(error, "r" * 128)
    # The status travels in base64, and beside it the message, percent-encoded.
    assert len(status.SerializeToString()) * 4 / 3 + len(status.message.encode()) * 3 < 8192
