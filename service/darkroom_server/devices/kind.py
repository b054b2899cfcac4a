"""What the service asks of a kind of accelerator, such as CUDA GPUs; each kind is one file."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from typing import ClassVar, Protocol


class Ability(enum.Enum):
    """What not every kind of accelerator can do."""

    OFFLOAD = "offload"
    BITSANDBYTES = "bitsandbytes"
    CUDA_GRAPHS = "cuda_graphs"


class Runtime(Protocol):
    """torch's module for the devices of one type, such as `torch.cuda`."""

    def is_available(self) -> bool:
        """Whether torch was built for such devices and finds one."""
        ...

    def device_count(self) -> int:
        """Devices that this process sees."""
        ...

    def synchronize(self, device: int | None = None) -> None:
        """Waits until everything that was started on the device has finished."""
        ...

    def max_memory_allocated(self, device: int | None = None) -> int:
        """The most bytes that tensors have taken."""
        ...

    def get_device_name(self, device: int | None = None) -> str:
        """The product's name."""
        ...

    def get_device_capability(self, device: int | None = None) -> tuple[int, int]:
        """The generation of the hardware; not every runtime has it."""
        ...


class AcceleratorKind:
    """One kind of accelerator. A subclass overrides what differs; nothing here imports torch.

    Methods with a `runtime` run in a worker's process. The others run in the server's process,
    which has no torch: they ask the driver. `index` counts the devices that workers see; with a
    runtime, None is its current device. An index that is not there is no error.
    """

    #: As torch names it in `torch.device(…)`.
    torch_type: ClassVar[str]
    #: The attribute of `torch.version` with the version of the kind's toolkit.
    toolkit: ClassVar[str]
    abilities: ClassVar[frozenset[Ability]] = frozenset()
    #: Parts of messages of errors after which a smaller request may succeed.
    out_of_memory_messages: ClassVar[tuple[str, ...]] = ()
    #: Parts of messages of errors after which the process can use the device no more.
    lost_device_messages: ClassVar[tuple[str, ...]] = ()
    #: Environment of the process that worker processes are forked from.
    environment: ClassVar[Mapping[str, str]] = {}

    def is_available(self, runtime: Runtime) -> bool:
        """Whether models can run on it here."""
        return runtime.is_available()

    def device_count(self, runtime: Runtime) -> int:
        """Devices that the worker sees."""
        return runtime.device_count()

    def synchronize(self, runtime: Runtime, index: int | None) -> None:
        """Waits for everything that was started on the device."""
        runtime.synchronize(index)

    def peak_memory_bytes(self, runtime: Runtime, index: int | None) -> int:
        """The most of the device's memory that tensors have taken; 0 if unknown."""
        return runtime.max_memory_allocated(index)

    def device_name(self, runtime: Runtime, index: int | None) -> str:
        """The product's name."""
        return runtime.get_device_name(index)

    def multiplies_fp8(self, runtime: Runtime, index: int | None) -> bool:
        """Whether it multiplies 8-bit floating point in hardware."""
        del runtime, index
        return False

    def driver_device_count(self) -> int:
        """Devices that workers will see; 0 without a driver."""
        return 0

    def driver_device_name(self, index: int) -> str:
        """The product's name, by the driver."""
        return f"{self.torch_type}:{index}"

    def free_bytes(self, index: int) -> int | None:
        """Memory of the device that nobody uses; None if unknown."""
        del index
        return None

    def held_bytes(self, index: int, pids: Collection[int]) -> int:
        """Memory of the device that these processes use; 0 if unknown."""
        del index, pids
        return 0
