"""What goes wrong below the worker, in the domain's words."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TypeVar

import structlog

from darkroom_server.devices import kinds
from darkroom_server.domain.errors import DarkroomError, GenerationFailed, OutOfDeviceMemory

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

#: What torch says on a processor where memory runs out: the error has no kind of its own.
_PROCESSOR_OUT_OF_MEMORY = "DefaultCPUAllocator: can't allocate memory"

#: The same by the system, of memory, processes, threads and files: all may be there again soon.
_SHORTAGES = frozenset(
    {errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOSPC}
)
#: As libraries say it whose errors have no number.
_OUT_OF_ROOM = (
    *(os.strerror(number) for number in sorted(_SHORTAGES)),
    "can't start new thread",
    _PROCESSOR_OUT_OF_MEMORY,
)


class MachineStarved(BaseException):
    """The machine had no room for a load; the message says of what.

    Not an Exception: it passes everything up to the process's entry, so that the load is tried
    again.
    """


class DeviceLost(BaseException):
    """The device's context is unusable: whatever this process asks of it from now on fails.

    Not an Exception: it passes everything up to the process's entry, so that a new worker is
    started and its jobs run again.
    """


def attempt(work: Callable[[], Result], *, is_load: bool = False) -> Result | DarkroomError:
    """What the work makes, or what it failed of; the cause of anything unforeseen is logged.

    Raises DeviceLost, and of a load MachineStarved.
    """
    try:
        return work()
    except DarkroomError as error:
        if is_load and (why := shortage(error.__cause__)):
            raise MachineStarved(why) from error
        return error
    except Exception as error:
        log.exception("model failed")
        if _has_lost_device(error):
            raise DeviceLost from error
        if is_load and (why := shortage(error)):
            raise MachineStarved(why) from error
        known = as_domain_error(error)
        if is_load:
            # For the caller that loads it. Its frames hold what the work held: tensors of a step
            # that did not fit must go before a smaller one is tried.
            known.__cause__ = error
        return known


def shortage(error: BaseException | None) -> str:
    """What the machine had no room for, where that is the error's cause; else empty."""
    while error is not None:
        if isinstance(error, MemoryError):
            return os.strerror(errno.ENOMEM)
        if isinstance(error, OSError) and error.errno in _SHORTAGES:
            return os.strerror(error.errno)
        if found := next((words for words in _OUT_OF_ROOM if words in str(error)), ""):
            return found
        error = error.__cause__
    return ""


def as_domain_error(error: Exception) -> DarkroomError:
    """An error that is safe to send to a caller.

    torch's own classes are recognized by name because this layer does not import torch.
    """
    if _is_out_of_memory(error):
        return OutOfDeviceMemory("The device has not enough memory for this request.")
    return GenerationFailed("The model failed on this request.")


def _is_out_of_memory(error: Exception) -> bool:
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or _PROCESSOR_OUT_OF_MEMORY in str(error)
        or kinds.means_out_of_memory(str(error))
    )


def _has_lost_device(error: Exception) -> bool:
    """An error of the device itself stays with the process: every later call fails of it too."""
    is_of_device = type(error).__name__ == "AcceleratorError" or kinds.means_lost_device(str(error))
    return is_of_device and not _is_out_of_memory(error)
