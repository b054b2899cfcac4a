"""Everything that can go wrong with a request, in the domain's words.

One tree; `wire/status.py` maps every leaf to a gRPC code, an HTTP status and a reason. Messages are
safe to send to a caller: no paths, no internals, no traceback.
"""

from __future__ import annotations


class DarkroomError(Exception):
    """Root of the tree. Only leaves are raised. Errors cross the pipe from a worker whole."""

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles message and attributes, whatever the constructor takes."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(
    kind: type[DarkroomError], args: tuple[object, ...], attributes: dict[str, object]
) -> DarkroomError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class FieldError(DarkroomError):
    """The request is wrong in one field; the message says how, and what would be right."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class InvalidParameter(FieldError):
    """A value is missing, malformed or out of range."""


class UnsupportedParameter(FieldError):
    """The chosen model cannot honour the parameter."""


class InvalidImage(FieldError):
    """An input image or mask does not decode, or is of a kind that is not taken."""


class ImageTooLarge(FieldError):
    """An input image or mask has more bytes or pixels than the service takes."""


class RequestTooLarge(DarkroomError):
    """The request has more bytes than the service takes."""


class BodyTimeout(DarkroomError):
    """The request did not arrive within the time that it may take."""


class UnknownRoute(DarkroomError):
    """Nothing is served at the address of an HTTP call."""


class MethodNotAllowed(DarkroomError):
    """Something is served at the address of an HTTP call, but not by this method."""


class UnsupportedEncoding(DarkroomError):
    """The body of an HTTP call is packed, where none is unpacked."""


class NotOffered(DarkroomError):
    """The server speaks the protocol, but does not have this part of it; the message says why."""


class WrongTask(FieldError):
    """The model exists but does not do what the method asks."""


class ModelNotFound(DarkroomError):
    """No model, or no version of it, has the name given."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class ModelPrecondition(DarkroomError):
    """The model is known, but not in a state for this; retrying helps once someone has acted."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class ModelUnavailable(ModelPrecondition):
    """The model was unloaded or could not be loaded."""


class VersionNotReady(ModelPrecondition):
    """A label was to point at a version that does not serve."""


class NotEnoughMemory(ModelPrecondition):
    """The model does not fit into the memory that is left; the message has the figures."""


class ControlRefused(ModelPrecondition):
    """Models are not loaded or unloaded on request by this server."""


class TryLater(DarkroomError):
    """The same request may be taken after `retry_after_s`."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(TryLater):
    """No room for another request now."""


class Draining(TryLater):
    """The server is about to stop and takes no new requests."""


class ReplicasLost(TryLater):
    """What runs the model can be reached nowhere; it is being started again."""


class WorkersKilled(TryLater):
    """What ran the request was killed from outside, as often as the request is run again."""


class InvalidApiKey(DarkroomError):
    """No API key where one is needed, or one that is not known."""


class PermissionDenied(DarkroomError):
    """The caller's key does not allow this."""


class RateLimited(TryLater):
    """The caller's key has had as many requests as it may have, for now."""

    def __init__(self, message: str, *, key_id: str, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.key_id = key_id


class InsufficientCredits(DarkroomError):
    """The caller's key has fewer credits left than the request takes."""

    def __init__(self, message: str, *, key_id: str) -> None:
        super().__init__(message)
        self.key_id = key_id


class LimitsUnavailable(TryLater):
    """The place where limits and credits are counted cannot be reached."""


class DeadlineExceeded(DarkroomError):
    """The caller's deadline passed, or provably cannot be met."""


class Cancelled(DarkroomError):
    """The caller took the request back."""


class LoadCancelled(DarkroomError):
    """The version was unloaded before its load had finished."""


class ResultsUnread(DarkroomError):
    """The caller does not read what was made for it."""


class OutOfDeviceMemory(DarkroomError):
    """The device has not enough memory for this request, even alone."""


class GenerationFailed(DarkroomError):
    """The model failed on this request (for example a non-finite latent)."""


class WorkerLost(DarkroomError):
    """The process that ran the request died, as often as the request is run again."""
