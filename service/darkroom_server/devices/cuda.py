"""GPUs by CUDA; where there is no torch, the driver is asked through NVML."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from typing import Any

import pynvml

from darkroom_server.devices.kind import Ability, AcceleratorKind, Runtime

#: Compute capability from which a GPU multiplies 8-bit floating point.
_FP8_CAPABILITY = (8, 9)


class Cuda(AcceleratorKind):
    """Torch calls AMD's GPUs by this name too; then the driver's questions have no answer."""

    torch_type = "cuda"
    toolkit = "cuda"
    abilities = frozenset(Ability)
    # By the driver, and by its libraries (of their work space).
    out_of_memory_messages = ("CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
    lost_device_messages = ("CUDA error:",)
    # diffusers asks torch for a GPU when it is imported. Asked of the runtime, every process forked
    # from this one could use none any more; asked of the driver's library, nothing is touched.
    environment = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}  # noqa: RUF012

    def multiplies_fp8(self, runtime: Runtime, index: int | None) -> bool:
        """By the compute capability."""
        return runtime.get_device_capability(index) >= _FP8_CAPABILITY

    def driver_device_count(self) -> int:
        """Those that CUDA_VISIBLE_DEVICES leaves."""
        with _nvml() as is_there:
            return len(_visible()) if is_there else 0
        return 0

    def driver_device_name(self, index: int) -> str:
        """The product's name."""
        with _nvml() as is_there:
            if is_there and (gpu := _gpu(index)) is not None:
                return str(pynvml.nvmlDeviceGetName(gpu))
        return super().driver_device_name(index)

    def free_bytes(self, index: int) -> int | None:
        """As the driver says."""
        with _nvml() as is_there:
            if is_there and (gpu := _gpu(index)) is not None:
                return int(pynvml.nvmlDeviceGetMemoryInfo(gpu).free)
        return None

    def held_bytes(self, index: int, pids: Collection[int]) -> int:
        """As the driver says, which is nothing where it sees processes by other numbers."""
        with _nvml() as is_there:
            if is_there and (gpu := _gpu(index)) is not None:
                running = pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)
                return sum(one.usedGpuMemory or 0 for one in running if one.pid in pids)
        return 0


@contextlib.contextmanager
def _nvml() -> Iterator[bool]:
    """Whether the driver's library is there, for as long as it is asked."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield False
        return
    try:
        yield True
    except pynvml.NVMLError:
        # A GPU that the configuration names and that is not there: loading says so.
        return
    finally:
        pynvml.nvmlShutdown()


def _gpu(index: int) -> Any:
    """The driver's handle of a GPU by the number that workers know it by; None if it is not there.

    Raises NVMLError.
    """
    visible = _visible()
    return pynvml.nvmlDeviceGetHandleByIndex(visible[index]) if index < len(visible) else None


def _visible() -> list[int]:
    """The driver's numbers of the GPUs that workers see, in the order of their own numbers.

    As CUDA reads the variable: what follows a number that is not there is not seen either. Names,
    which it may hold as well, count as all GPUs.
    """
    every = list(range(int(pynvml.nvmlDeviceGetCount())))
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return every
    seen: list[int] = []
    for part in map(str.strip, named.split(",")):
        if part.startswith(("GPU-", "MIG-")):
            return every
        if not part.isdecimal() or int(part) not in every:
            break
        seen.append(int(part))
    return seen
