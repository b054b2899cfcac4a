"""What goes wrong below the worker, in the domain's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog

from darkroom_server.domain.errors import DarkroomError, GenerationFailed, OutOfDeviceMemory

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


def attempt(work: Callable[[], Result]) -> Result | DarkroomError:
    """What the work makes, or what it failed of; the cause of anything unforeseen is logged."""
    try:
        return work()
    except DarkroomError as error:
        return error
    except Exception as error:
        log.exception("model failed")
        return as_domain_error(error)


def as_domain_error(error: Exception) -> DarkroomError:
    """An error that is safe to send to a caller.

    torch raises its own kind of MemoryError, told by name because this layer does not import torch.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return OutOfDeviceMemory("The device has not enough memory for this request.")
    return GenerationFailed("The model failed on this request.")
