"""The kinds of accelerators that models can run on, in the order in which they are preferred."""

from __future__ import annotations

from darkroom_server.devices.cuda import Cuda
from darkroom_server.devices.kind import AcceleratorKind

#: A new kind is a file beside this one, and its entry here.
KINDS: tuple[AcceleratorKind, ...] = (Cuda(),)


def of_this_machine() -> AcceleratorKind | None:
    """The kind whose devices workers will see, by the drivers; None if there are none."""
    return next((kind for kind in KINDS if kind.driver_device_count()), None)


def means_out_of_memory(message: str) -> bool:
    """Whether an error's message says that a device has too little memory left."""
    return any(part in message for kind in KINDS for part in kind.out_of_memory_messages)


def means_lost_device(message: str) -> bool:
    """Whether an error's message says that this process can no longer use the device."""
    return any(part in message for kind in KINDS for part in kind.lost_device_messages)
