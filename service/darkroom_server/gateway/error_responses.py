"""Errors as HTTP answers: the table of `wire/status.py` in each dialect's format."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse

from darkroom_server.domain.errors import DarkroomError, Draining, FieldError, TryLater
from darkroom_server.wire.status import INTERNAL_REASON, MAX_MESSAGE_BYTES, cut, kind_of

_INVALID = "invalid_request_error"

#: Type and code as OpenAI's clients know them, for every reason.
TYPES: Mapping[str, tuple[str, str]] = {
    "INVALID_PARAMETER": (_INVALID, "invalid_value"),
    "UNSUPPORTED_PARAMETER": (_INVALID, "unsupported_parameter"),
    "INVALID_IMAGE": (_INVALID, "invalid_image"),
    "IMAGE_TOO_LARGE": (_INVALID, "invalid_image"),
    "REQUEST_TOO_LARGE": (_INVALID, "request_too_large"),
    "BODY_TIMEOUT": ("timeout_error", "request_timeout"),
    "RESULTS_UNREAD": ("timeout_error", "results_unread"),
    "ROUTE_NOT_FOUND": (_INVALID, "route_not_found"),
    "METHOD_NOT_ALLOWED": (_INVALID, "method_not_allowed"),
    "UNSUPPORTED_ENCODING": (_INVALID, "unsupported_encoding"),
    "NOT_OFFERED": (_INVALID, "not_offered"),
    "WRONG_TASK": (_INVALID, "wrong_task"),
    "MODEL_NOT_FOUND": (_INVALID, "model_not_found"),
    "MODEL_UNAVAILABLE": (_INVALID, "model_unavailable"),
    "VERSION_NOT_READY": (_INVALID, "version_not_ready"),
    "NOT_ENOUGH_MEMORY": (_INVALID, "not_enough_memory"),
    "MODEL_CONTROL": (_INVALID, "model_control"),
    "QUEUE_FULL": ("rate_limit_error", "server_overloaded"),
    "DRAINING": ("server_error", "server_stopping"),
    "REPLICAS_LOST": ("server_error", "replicas_lost"),
    "WORKERS_KILLED": ("server_error", "workers_killed"),
    "INVALID_API_KEY": (_INVALID, "invalid_api_key"),
    "PERMISSION_DENIED": (_INVALID, "permission_denied"),
    "RATE_LIMITED": ("rate_limit_error", "rate_limit_exceeded"),
    "INSUFFICIENT_CREDITS": ("rate_limit_error", "insufficient_quota"),
    "LIMITS_UNAVAILABLE": ("server_error", "limits_unavailable"),
    "DEADLINE_EXCEEDED": ("timeout_error", "deadline_exceeded"),
    "CANCELLED": (_INVALID, "cancelled"),
    "LOAD_CANCELLED": (_INVALID, "load_cancelled"),
    "OUT_OF_DEVICE_MEMORY": ("server_error", "out_of_memory"),
    "GENERATION_FAILED": ("server_error", "generation_failed"),
    "WORKER_LOST": ("server_error", "worker_lost"),
    INTERNAL_REASON: ("server_error", "internal_error"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error in words that may be sent. `param` is the field at fault, as its caller calls it.

    `code` is gRPC's name of what has happened.
    """

    http_status: int
    code: str
    reason: str
    text: str
    param: str | None = None
    retryable: bool = False
    retry_after_s: float | None = None
    closing: bool = False

    @property
    def message(self) -> str:
        """The text, with the field at fault."""
        return self.text if self.param is None else f"{self.param}: {self.text}"

    @property
    def openai(self) -> dict[str, Any]:
        """The object that OpenAI's clients expect under `error`."""
        kind, code = TYPES[self.reason]
        return {"message": self.message, "type": kind, "param": self.param, "code": code}


Render = Callable[[Problem], dict[str, Any]]


def problem_of(error: DarkroomError) -> Problem:
    """The error as a problem."""
    kind = kind_of(error)
    return Problem(
        http_status=kind.http_status,
        code=kind.code.name,
        reason=kind.reason,
        text=words_of(error),
        param=error.field if isinstance(error, FieldError) else None,
        retryable=kind.retryable,
        retry_after_s=error.retry_after_s if isinstance(error, TryLater) else None,
        closing=isinstance(error, Draining),
    )


def words_of(error: DarkroomError) -> str:
    """What the error says; callers' own words in it may be long, or no Unicode."""
    return cut(str(error), MAX_MESSAGE_BYTES)


def internal_problem(request_id: str) -> Problem:
    """The problem of an unexpected error: contains only the id to find in the logs."""
    text = f"the server failed on this request; its logs have the cause under id {request_id}"
    return Problem(http_status=500, code="INTERNAL", reason=INTERNAL_REASON, text=text)


def refusal(problem: Problem, render: Render) -> Response:
    """The response, with headers that say whether and when to retry."""
    return JSONResponse(
        render(problem), status_code=problem.http_status, headers=refusal_headers(problem)
    )


def refusal_headers(problem: Problem) -> dict[str, str]:
    """What goes with a problem in every dialect."""
    headers = {"x-should-retry": "true" if problem.retryable else "false"}
    if problem.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(problem.retry_after_s)))
    if problem.closing:
        headers["connection"] = "close"
    if problem.http_status == 401:
        headers["www-authenticate"] = "Bearer"
    return headers
