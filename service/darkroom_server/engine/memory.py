"""The memory of the machine and its GPUs, as far as this process may use it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import psutil

from darkroom_server.devices import kinds
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
        """Free memory of a device; None when it is unknown."""
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
        """GPUs that a driver knows; 0 without a driver."""
        kind = kinds.of_this_machine()
        return kind.driver_device_count() if kind is not None else 0

    def available_bytes(self, device: Device) -> int | None:
        """Of a GPU what is free; of the machine what the kernel and control groups leave."""
        if device is None:
            left = cgroup_available_bytes(_CGROUPS, _own_group())
            machine = int(psutil.virtual_memory().available)
            return machine if left is None else min(machine, left)
        kind = kinds.of_this_machine()
        return kind.free_bytes(device) if kind is not None else None

    def held_bytes(self, pids: Iterable[int], device: Device = None) -> int:
        """Of the machine pages that no other process shares; of a GPU what the driver says, which
        is nothing where it sees processes by other numbers.
        """
        if device is not None:
            kind = kinds.of_this_machine()
            return kind.held_bytes(device, set(pids)) if kind is not None else 0
        held = 0
        for pid in pids:
            with contextlib.suppress(psutil.Error, OSError):
                held += psutil.Process(pid).memory_full_info().uss
        return held

    def growth_bytes(self, pids: Iterable[int]) -> int:
        """By the kernel's high-water mark."""
        return sum(_growth_bytes(Path(f"/proc/{pid}/status")) for pid in pids)


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
