"""What goes wrong below the worker, in the domain's words."""

from __future__ import annotations

from darkroom_server.domain.errors import DarkroomError, GenerationFailed, OutOfDeviceMemory


def as_domain_error(error: Exception) -> DarkroomError:
    """An error that is safe to send to a caller.

    torch raises its own kind of MemoryError, told by name because this layer does not import torch.
    """
    if isinstance(error, DarkroomError):
        return error
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return OutOfDeviceMemory("The device has not enough memory for this request.")
    return GenerationFailed("The model failed on this request.")
