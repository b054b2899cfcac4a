"""The one table from errors to what callers see, and the google.rpc status made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from darkroom_server.domain import errors
from darkroom_server.domain.errors import DarkroomError

ERROR_DOMAIN = "darkroom.v1"
#: A status travels in headers, and stock clients take 8 KiB of those.
MAX_MESSAGE_BYTES = 1000
MAX_DETAIL_BYTES = 256

INTERNAL_REASON = "INTERNAL"
#: Nothing waits for longer by itself until a limit allows more; its caller may.
LONG_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """How one class of errors is shown. `retryable`: the same request may succeed later."""

    code: grpc.StatusCode
    http_status: int
    reason: str
    retryable: bool = False


_Code = grpc.StatusCode

#: Total over the leaves of `domain.errors`.
ERROR_KINDS: Mapping[type[DarkroomError], ErrorKind] = {
    errors.InvalidParameter: ErrorKind(_Code.INVALID_ARGUMENT, 400, "INVALID_PARAMETER"),
    errors.UnsupportedParameter: ErrorKind(_Code.INVALID_ARGUMENT, 400, "UNSUPPORTED_PARAMETER"),
    errors.InvalidImage: ErrorKind(_Code.INVALID_ARGUMENT, 400, "INVALID_IMAGE"),
    errors.ImageTooLarge: ErrorKind(_Code.INVALID_ARGUMENT, 400, "IMAGE_TOO_LARGE"),
    errors.RequestTooLarge: ErrorKind(_Code.RESOURCE_EXHAUSTED, 413, "REQUEST_TOO_LARGE"),
    errors.BodyTimeout: ErrorKind(_Code.DEADLINE_EXCEEDED, 408, "BODY_TIMEOUT"),
    errors.UnknownRoute: ErrorKind(_Code.UNIMPLEMENTED, 404, "ROUTE_NOT_FOUND"),
    errors.MethodNotAllowed: ErrorKind(_Code.UNIMPLEMENTED, 405, "METHOD_NOT_ALLOWED"),
    errors.UnsupportedEncoding: ErrorKind(_Code.UNIMPLEMENTED, 415, "UNSUPPORTED_ENCODING"),
    errors.NotOffered: ErrorKind(_Code.UNIMPLEMENTED, 501, "NOT_OFFERED"),
    errors.WrongTask: ErrorKind(_Code.INVALID_ARGUMENT, 400, "WRONG_TASK"),
    errors.ModelNotFound: ErrorKind(_Code.NOT_FOUND, 404, "MODEL_NOT_FOUND"),
    errors.ModelUnavailable: ErrorKind(_Code.FAILED_PRECONDITION, 409, "MODEL_UNAVAILABLE"),
    errors.VersionNotReady: ErrorKind(_Code.FAILED_PRECONDITION, 409, "VERSION_NOT_READY"),
    errors.NotEnoughMemory: ErrorKind(_Code.FAILED_PRECONDITION, 409, "NOT_ENOUGH_MEMORY"),
    errors.ControlRefused: ErrorKind(_Code.FAILED_PRECONDITION, 409, "MODEL_CONTROL"),
    errors.QueueFull: ErrorKind(_Code.UNAVAILABLE, 429, "QUEUE_FULL", retryable=True),
    errors.Draining: ErrorKind(_Code.UNAVAILABLE, 503, "DRAINING", retryable=True),
    errors.ReplicasLost: ErrorKind(_Code.UNAVAILABLE, 503, "REPLICAS_LOST", retryable=True),
    errors.WorkersKilled: ErrorKind(_Code.UNAVAILABLE, 503, "WORKERS_KILLED", retryable=True),
    errors.InvalidApiKey: ErrorKind(_Code.UNAUTHENTICATED, 401, "INVALID_API_KEY"),
    errors.PermissionDenied: ErrorKind(_Code.PERMISSION_DENIED, 403, "PERMISSION_DENIED"),
    errors.RateLimited: ErrorKind(_Code.RESOURCE_EXHAUSTED, 429, "RATE_LIMITED", retryable=True),
    errors.InsufficientCredits: ErrorKind(_Code.RESOURCE_EXHAUSTED, 429, "INSUFFICIENT_CREDITS"),
    # No 503, which some clients repeat at once and without end.
    errors.LimitsUnavailable: ErrorKind(
        _Code.UNAVAILABLE, 500, "LIMITS_UNAVAILABLE", retryable=True
    ),
    errors.DeadlineExceeded: ErrorKind(_Code.DEADLINE_EXCEEDED, 504, "DEADLINE_EXCEEDED"),
    errors.Cancelled: ErrorKind(_Code.CANCELLED, 499, "CANCELLED"),
    errors.LoadCancelled: ErrorKind(_Code.CANCELLED, 409, "LOAD_CANCELLED"),
    errors.ResultsUnread: ErrorKind(_Code.RESOURCE_EXHAUSTED, 408, "RESULTS_UNREAD"),
    errors.OutOfDeviceMemory: ErrorKind(_Code.RESOURCE_EXHAUSTED, 500, "OUT_OF_DEVICE_MEMORY"),
    errors.GenerationFailed: ErrorKind(_Code.INTERNAL, 500, "GENERATION_FAILED"),
    errors.WorkerLost: ErrorKind(_Code.INTERNAL, 500, "WORKER_LOST"),
}


def kind_of(error: DarkroomError) -> ErrorKind:
    """The row of the error's class."""
    return ERROR_KINDS[type(error)]


def status_of(error: DarkroomError, request_id: str) -> status_pb2.Status:
    """The error as a status with details."""
    kind = kind_of(error)
    message = cut(str(error), MAX_MESSAGE_BYTES)
    if isinstance(error, errors.FieldError):
        message = f"{error.field}: {message}"
    info = error_details_pb2.ErrorInfo(reason=kind.reason, domain=ERROR_DOMAIN)
    details: list[Message] = [info]
    if isinstance(error, errors.FieldError):
        info.metadata["field"] = error.field
        details.append(_bad_request(error, kind))
    elif isinstance(error, errors.ModelNotFound):
        info.metadata["model"] = cut(error.name, MAX_DETAIL_BYTES)
        details.append(_resource(error))
    elif isinstance(error, errors.ModelPrecondition):
        info.metadata["model"] = cut(error.name, MAX_DETAIL_BYTES)
        details.append(_precondition(error, kind))
    elif isinstance(error, errors.RateLimited | errors.InsufficientCredits):
        info.metadata["key"] = error.key_id
        details.append(_quota(error))
    if isinstance(error, errors.TryLater):
        details.append(_retry(error))
    if kind.code is grpc.StatusCode.INTERNAL:
        details.append(error_details_pb2.RequestInfo(request_id=request_id))
    return _status(kind.code, message, details)


def internal_status(request_id: str) -> status_pb2.Status:
    """The status of an unexpected error: contains only the id to find in the logs."""
    return _status(
        grpc.StatusCode.INTERNAL,
        f"the server failed on this request; its logs have the cause under id {request_id}",
        [
            error_details_pb2.ErrorInfo(reason=INTERNAL_REASON, domain=ERROR_DOMAIN),
            error_details_pb2.RequestInfo(request_id=request_id),
        ],
    )


def unimplemented_status() -> status_pb2.Status:
    """The status of a method that is in the contract but not in this server."""
    return _status(
        grpc.StatusCode.UNIMPLEMENTED,
        "this server does not implement the method",
        [error_details_pb2.ErrorInfo(reason="UNIMPLEMENTED", domain=ERROR_DOMAIN)],
    )


def retry_pushback_ms(error: DarkroomError) -> int | None:
    """Milliseconds after which a gRPC client may retry by itself; -1 for never.

    None leaves it to the client's policy, which retries UNAVAILABLE only.
    """
    if isinstance(error, errors.RateLimited) and error.retry_after_s > LONG_WAIT_S:
        return -1
    if isinstance(error, errors.TryLater):
        return max(0, round(error.retry_after_s * 1000))
    if isinstance(
        error, errors.OutOfDeviceMemory | errors.InsufficientCredits | errors.ResultsUnread
    ):
        return -1
    return None


def _status(code: grpc.StatusCode, message: str, details: list[Message]) -> status_pb2.Status:
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        status.details.add().Pack(detail)
    return status


def _bad_request(error: errors.FieldError, kind: ErrorKind) -> error_details_pb2.BadRequest:
    violation = error_details_pb2.BadRequest.FieldViolation(
        field=error.field,
        description=cut(str(error), MAX_MESSAGE_BYTES),
        reason=kind.reason,
    )
    return error_details_pb2.BadRequest(field_violations=[violation])


def _resource(error: errors.ModelNotFound) -> error_details_pb2.ResourceInfo:
    return error_details_pb2.ResourceInfo(
        resource_type="darkroom.v1.Model",
        resource_name=cut(error.name, MAX_DETAIL_BYTES),
        description=cut(str(error), MAX_MESSAGE_BYTES),
    )


def _precondition(
    error: errors.ModelPrecondition, kind: ErrorKind
) -> error_details_pb2.PreconditionFailure:
    violation = error_details_pb2.PreconditionFailure.Violation(
        type=kind.reason,
        subject=cut(error.name, MAX_DETAIL_BYTES),
        description=cut(str(error), MAX_MESSAGE_BYTES),
    )
    return error_details_pb2.PreconditionFailure(violations=[violation])


def _quota(
    error: errors.RateLimited | errors.InsufficientCredits,
) -> error_details_pb2.QuotaFailure:
    violation = error_details_pb2.QuotaFailure.Violation(
        subject=f"key:{error.key_id}", description=cut(str(error), MAX_MESSAGE_BYTES)
    )
    return error_details_pb2.QuotaFailure(violations=[violation])


def _retry(error: errors.TryLater) -> error_details_pb2.RetryInfo:
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(max(0, round(error.retry_after_s * 1000)))
    return retry


def cut(text: str, length_bytes: int) -> str:
    """The text as Unicode that can be sent, and no longer than that."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= length_bytes:
        return encoded.decode()
    return encoded[: length_bytes - 3].decode(errors="ignore") + "…"
