"""From a gRPC status and its google.rpc details to an error of this package."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import (  # type: ignore[import-untyped,unused-ignore]
    error_details_pb2,
    status_pb2,
)

from darkroom_client import errors
from darkroom_client.transport import fault_of

_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a failed call ended with; the details that the service did not send are empty."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    violations: tuple[errors.FieldViolation, ...] = ()
    retry_after_s: float | None = None
    request_id: str = ""


def read_status(
    code: grpc.StatusCode,
    message: str | None,
    trailing_metadata: Iterable[tuple[str, str | bytes]] | None,
    request_id: str,
) -> Status:
    """The status of a failed call; `request_id` is used when the details have none."""
    reason = ""
    violations: tuple[errors.FieldViolation, ...] = ()
    retry_after_s = None
    for packed in _packed_details(trailing_metadata):
        if packed.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            packed.Unpack(info)
            reason = info.reason
        elif packed.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            packed.Unpack(bad)
            violations = tuple(
                errors.FieldViolation(each.field, each.description, each.reason)
                for each in bad.field_violations
            )
        elif packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            packed.Unpack(retry)
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
        elif packed.Is(error_details_pb2.RequestInfo.DESCRIPTOR):
            request = error_details_pb2.RequestInfo()
            packed.Unpack(request)
            request_id = request.request_id or request_id
    return Status(
        code=code,
        message=message or "",
        reason=reason,
        violations=violations,
        retry_after_s=retry_after_s,
        request_id=request_id,
    )


#: What a caller of this package can do about a key that is missing or wrong.
KEY_ADVICE = "; the client takes a key as api_key=..."


def error_of(status: Status, server: str) -> errors.DarkroomError:
    """The error that says what the status means; `server` names the one that was called."""
    message, reason, request_id = status.message, status.reason, status.request_id
    match status.code:
        case grpc.StatusCode.UNAVAILABLE:
            kind = errors.QueueFull if reason == "QUEUE_FULL" else errors.Unavailable
            # Without details the status is the transport's own: say which server it is about.
            text = message if reason else f"{server} is not available: {message}"
            if not reason and (fault := fault_of(message)) is not None:
                text = f"{text}; {fault.value}"
            return kind(
                text, retry_after_s=status.retry_after_s, reason=reason, request_id=request_id
            )
        case grpc.StatusCode.RESOURCE_EXHAUSTED if reason == "OUT_OF_DEVICE_MEMORY":
            return errors.ServerError(message, reason=reason, request_id=request_id)
        case grpc.StatusCode.RESOURCE_EXHAUSTED if reason == "INSUFFICIENT_CREDITS":
            return errors.InsufficientCredits(message, reason=reason, request_id=request_id)
        case grpc.StatusCode.RESOURCE_EXHAUSTED if reason or status.retry_after_s is not None:
            return errors.RateLimited(
                message, retry_after_s=status.retry_after_s, reason=reason, request_id=request_id
            )
        case (
            grpc.StatusCode.INVALID_ARGUMENT
            | grpc.StatusCode.OUT_OF_RANGE
            # Without details: the transport's word for a message over the size limit.
            | grpc.StatusCode.RESOURCE_EXHAUSTED
        ):
            return errors.InvalidRequest(
                message, violations=status.violations, reason=reason, request_id=request_id
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            # gRPC's own words say no more than the code.
            own = message.casefold() == "deadline exceeded"
            text = "the deadline passed" if own else message
            return errors.DeadlineExceeded(text, reason=reason, request_id=request_id)
        case grpc.StatusCode.UNAUTHENTICATED:
            text = f"{message.removesuffix('.')}{KEY_ADVICE}"
            return errors.Unauthenticated(text, reason=reason, request_id=request_id)
        case code:
            kind_of_code = _KINDS.get(code, errors.ServerError)
            return kind_of_code(message, reason=reason, request_id=request_id)


_KINDS: dict[grpc.StatusCode, type[errors.DarkroomError]] = {
    grpc.StatusCode.NOT_FOUND: errors.ModelNotFound,
    grpc.StatusCode.FAILED_PRECONDITION: errors.ModelUnavailable,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.CANCELLED: errors.Cancelled,
}


def _packed_details(metadata: Iterable[tuple[str, str | bytes]] | None) -> list[AnyMessage]:
    for key, value in metadata or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            status = status_pb2.Status()
            try:
                status.MergeFromString(value)
            except DecodeError:
                return []
            return list(status.details)
    return []
