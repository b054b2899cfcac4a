"""Errors of a call. `str()` of each is one line for a person to read."""

from __future__ import annotations

from dataclasses import dataclass


class DarkroomError(Exception):
    """Root of the tree.

    `reason` is the service's stable word for the cause (`INVALID_PARAMETER`, `QUEUE_FULL`, …) and
    empty where the error did not come from the service. `request_id` finds the call in its logs.
    Example::

        try:
            client.generate("a red circle", timeout=10)
        except RetryableError as error:
            time.sleep(error.retry_after_s or 1)
        except DarkroomError as error:
            print(error, error.reason, error.request_id)
    """

    def __init__(self, message: str, *, reason: str = "", request_id: str = "") -> None:
        super().__init__(" ".join(message.split()) or type(self).__name__)
        self.reason = reason
        self.request_id = request_id


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of the request that is wrong, by its path in the request message."""

    field: str
    description: str
    reason: str = ""


class InvalidRequest(DarkroomError):
    """The service does not accept this request as it is; `violations` name the fields."""

    def __init__(
        self,
        message: str,
        *,
        violations: tuple[FieldViolation, ...] = (),
        reason: str = "",
        request_id: str = "",
    ) -> None:
        named = "; ".join(f"{each.field}: {each.description}" for each in violations)
        super().__init__(named or message, reason=reason, request_id=request_id)
        self.violations = violations


class ModelNotFound(DarkroomError):
    """The service has no such model, or no such version of it."""


class ModelUnavailable(DarkroomError):
    """The model exists but is unloaded or could not be loaded; trying again does not help."""


class Unauthenticated(DarkroomError):
    """No API key, or one that the service does not know."""


class PermissionDenied(DarkroomError):
    """The API key does not allow this call."""


class DeadlineExceeded(DarkroomError):
    """The time given with `timeout` was not enough."""


class Cancelled(DarkroomError):
    """The call was cancelled by something other than the code that waits for it."""


class RetryableError(DarkroomError):
    """Trying again later may help; `retry_after_s` is the service's advice, None without one."""

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        reason: str = "",
        request_id: str = "",
    ) -> None:
        advice = "" if retry_after_s is None else f" (try again in {retry_after_s:.3g} s)"
        super().__init__(message + advice, reason=reason, request_id=request_id)
        self.retry_after_s = retry_after_s


class Unavailable(RetryableError):
    """The server cannot be reached, is stopping, or has no room."""


class QueueFull(Unavailable):
    """The server is there but has no room for another request now."""


class RateLimited(RetryableError):
    """This caller's key has had as many requests as it may have, for now."""


class InsufficientCredits(DarkroomError):
    """This caller's key has fewer credits left than the request takes."""


class ServerError(DarkroomError):
    """The service failed, not the request; name `request_id` when you report it."""

    def __init__(self, message: str, *, reason: str = "", request_id: str = "") -> None:
        if request_id not in message:
            message = f"{message} (request {request_id})"
        super().__init__(message, reason=reason, request_id=request_id)


class CorruptImage(DarkroomError):
    """The stream did not carry what it announced: bytes missing, doubled or altered, or no end."""
