"""The memory of the machine and its GPUs, as far as this process may use it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import psutil
import pynvml

from darkroom_server.lifecycle.memory import Device

_CGROUPS = Path("/sys/fs/cgroup")
#: Files of a control group: its limit, what it uses, and its statistics, in versions 2 and 1; and
#: what the statistics call file pages that are given back when memory is short.
_CGROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


class MemoryProbe(Protocol):
    """Knows how much memory is left."""

    def gpu_count(self) -> int:
        """GPUs that workers see."""
        ...

    def available_bytes(self, device: Device) -> int | None:
        """Memory that is left on a device; None when it cannot be told."""
        ...

    def held_bytes(self, pids: Iterable[int], device: Device = None) -> int:
        """Memory of a device that processes have for themselves."""
        ...

    def growth_bytes(self, pids: Iterable[int]) -> int:
        """How much more the processes have had at their peaks than they have now."""
        ...


class SystemMemory:
    """The real one. Blocking, for microseconds to milliseconds."""

    def gpu_count(self) -> int:
        """GPUs that the driver knows; 0 without a driver."""
        with _nvml() as is_there:
            return len(_visible()) if is_there else 0
        return 0

    def available_bytes(self, device: Device) -> int | None:
        """Of a GPU what is free; of the machine what the kernel and control groups leave."""
        if device is None:
            left = cgroup_available_bytes(_CGROUPS, _own_group())
            machine = int(psutil.virtual_memory().available)
            return machine if left is None else min(machine, left)
        with _nvml() as is_there:
            if is_there and (gpu := _gpu(device)) is not None:
                return int(pynvml.nvmlDeviceGetMemoryInfo(gpu).free)
        return None

    def held_bytes(self, pids: Iterable[int], device: Device = None) -> int:
        """Of the machine pages that no other process shares; of a GPU what the driver says, which
        is nothing where it sees processes by other numbers.
        """
        if device is not None:
            return _held_on_gpu_bytes(set(pids), device)
        held = 0
        for pid in pids:
            with contextlib.suppress(psutil.Error, OSError):
                held += psutil.Process(pid).memory_full_info().uss
        return held

    def growth_bytes(self, pids: Iterable[int]) -> int:
        """By the kernel's high-water mark."""
        return sum(_growth_bytes(Path(f"/proc/{pid}/status")) for pid in pids)


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


def _gpu(number: int) -> Any:
    """The driver's handle of a GPU by the number that workers know it by; None if it is not there.

    Raises NVMLError.
    """
    visible = _visible()
    return pynvml.nvmlDeviceGetHandleByIndex(visible[number]) if number < len(visible) else None


def _held_on_gpu_bytes(pids: set[int], number: int) -> int:
    with _nvml() as is_there:
        if is_there and (gpu := _gpu(number)) is not None:
            running = pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)
            return sum(one.usedGpuMemory or 0 for one in running if one.pid in pids)
    return 0


def _visible() -> list[int]:
    """The driver's numbers of the GPUs that workers see, in the order of their own numbers.

    Names other than numbers, which the variable may hold as well, count as all GPUs.
    """
    every = list(range(int(pynvml.nvmlDeviceGetCount())))
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return every
    parts = [part.strip() for part in named.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        return every
    return [int(part) for part in parts if int(part) in every]


def cgroup_available_bytes(root: Path, group: str) -> int | None:
    """What the limits of a control group and those above it leave; None without a limit."""
    least: int | None = None
    for hierarchy in (root, root / "memory"):
        folder = hierarchy / group.strip("/")
        for place in (folder, *folder.parents):
            if not place.is_relative_to(hierarchy):
                break
            left = _left_bytes(place)
            if left is not None and (least is None or left < least):
                least = left
    return least


def _left_bytes(folder: Path) -> int | None:
    for limit_name, used_name, reclaimable in _CGROUP_FILES:
        with contextlib.suppress(OSError, ValueError):
            limit = int((folder / limit_name).read_text())  # "max" is no number
            used = int((folder / used_name).read_text())
            return limit - used + _field(folder / "memory.stat", reclaimable)
    return None


def _own_group() -> str:
    """The process's memory control group, in either version."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(",") or not controllers:
                return path
    return "/"


def _growth_bytes(status: Path) -> int:
    return max(0, _field(status, "VmHWM:") - _field(status, "VmRSS:")) * 1024


def _field(path: Path, name: str) -> int:
    """A number in a file of lines `name number …`; 0 when it is not there."""
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            if line.startswith((f"{name} ", f"{name}\t")):
                return int(line.split()[1])
    return 0
