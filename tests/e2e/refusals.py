"""What a caller sees of a call that failed, and what it must never see."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

#: A traceback, a path of a file, the name of a Python class or module.
INTERNALS = re.compile(
    r"Traceback|<class|object at 0x|\.py\b|(?<![\w/])/(?:\w+/)+\w+|\w(?:Error|Exception)\b"
    r"|\b(?:PIL|Pillow|numpy|protobuf|darkroom_server)\b"
)
#: No case may take longer, whatever the server does with it.
TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A failed call; `reason` and `field` are empty where the details have none."""

    code: str
    reason: str = ""
    field: str = ""
    message: str = ""


def refusal(call: Callable[[], Iterable[Any]]) -> Refusal:
    """The status that the call ends with; fails when it succeeds or tells of internals."""
    try:
        answered = list(call())
    except grpc.RpcError as error:
        return _read(error)
    raise AssertionError(f"was taken, and {len(answered)} messages came back")


def _read(error: Any) -> Refusal:
    message, reason, field = error.details() or "", "", ""
    assert not INTERNALS.search(message), message
    status = rpc_status.from_call(error)
    for packed in () if status is None else status.details:
        assert not INTERNALS.search(packed.value.decode("utf-8", "replace"))
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if packed.Unpack(info):
            reason = info.reason
            assert info.domain == "darkroom.v1"
        elif packed.Unpack(bad):
            [violation] = bad.field_violations
            field = violation.field
            assert violation.description in message
    return Refusal(error.code().name, reason, field, message)
