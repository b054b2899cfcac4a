"""Whether versions fit into memory, and what would have to leave. Pure but for reading headers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from darkroom_server.domain.models import DeviceKind, Dtype, Placement, VersionInfo
from darkroom_server.repository.weights import loaded_bytes

#: A GPU's number, None for the machine's own memory.
Device: TypeAlias = "int | None"
#: Bytes by device.
Memory: TypeAlias = "Mapping[Device, int]"

_FLOAT_BITS = {Dtype.FP32: 32, Dtype.FP16: 16, Dtype.BF16: 16}
_GIB = 1 << 30
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a version takes: weights in its dtype and the rest, of all its workers, by device."""

    weight_bytes: Memory
    overhead_bytes: Memory

    @property
    def total_bytes(self) -> dict[Device, int]:
        """Both together."""
        return {
            device: weights + self.overhead_bytes.get(device, 0)
            for device, weights in self.weight_bytes.items()
        }


@dataclass(frozen=True, slots=True)
class Idle:
    """A version that serves and that no request holds; `used_at_s`: by the last one."""

    used_at_s: float
    key: object
    held_bytes: Memory


def device_of(placement: Placement, gpu_count: int) -> Device:
    """Where a worker's weights will be."""
    if placement.device is DeviceKind.CPU or not gpu_count:
        return None
    return placement.gpu or 0


def need_of(version: VersionInfo, *, gpu_count: int, overhead_bytes: Memory) -> Need:
    """What a version will take; `overhead_bytes`: of one worker, by device, 0 where unsaid.

    Blocking; a file that cannot be read counts with its size: loading will say what is wrong.
    """
    model = version.model
    weight_bytes: dict[Device, int] = {}
    rest_bytes: dict[Device, int] = {}
    for placement in model.placements:
        device = device_of(placement, gpu_count)
        dtype = model.dtype
        if dtype is Dtype.AUTO:
            dtype = Dtype.FP32 if device is None else Dtype.BF16
        weights = sum(
            loaded_bytes(file, _FLOAT_BITS[dtype]) for file in _weight_files(version.path)
        )
        weight_bytes[device] = weight_bytes.get(device, 0) + weights
        rest_bytes[device] = rest_bytes.get(device, 0) + overhead_bytes.get(device, 0)
    return Need(weight_bytes=weight_bytes, overhead_bytes=rest_bytes)


def _weight_files(folder: Path) -> list[Path]:
    """Files of the pipeline's parts; of a part in several precisions those of the first alone."""
    found: dict[Path, list[Path]] = {}
    for file in sorted((*folder.glob("*.safetensors"), *folder.glob("*/*.safetensors"))):
        found.setdefault(file.parent, []).append(file)
    chosen = []
    for files in found.values():
        plain = [file for file in files if not _is_variant(file)]
        chosen += plain or files
    return chosen


def _is_variant(file: Path) -> bool:
    return any(f".{variant}" in file.name for variant in ("fp16", "bf16", "fp32", "non_ema"))


def shortage(needed: Memory, available: Memory) -> dict[Device, int]:
    """Bytes that lack, by device; a device of which nothing is known has enough."""
    lacking = {
        device: needed_bytes - available[device]
        for device, needed_bytes in needed.items()
        if device in available
    }
    return {device: count for device, count in lacking.items() if count > 0}


def victims(lacking: Memory, idle: Iterable[Idle]) -> tuple[object, ...]:
    """The keys of what should leave, the longest unused first; none if all were not enough."""
    left = dict(lacking)
    chosen = []
    for one in sorted(idle, key=lambda each: each.used_at_s):
        if not any(count > 0 for count in left.values()):
            break
        if any(left.get(device, 0) > 0 for device in one.held_bytes):
            chosen.append(one.key)
            for device, count in one.held_bytes.items():
                left[device] = left.get(device, 0) - count
    return () if any(count > 0 for count in left.values()) else tuple(chosen)


def refusal_text(name: str, need: Need, available: Memory, lacking: Memory) -> str:
    """Why a version is not loaded, with the figures."""
    parts = [
        f"{shown(need.total_bytes[device])} of {_place(device)} "
        f"(weights {shown(need.weight_bytes[device])}, the rest "
        f"{shown(need.overhead_bytes.get(device, 0))}), and {shown(max(0, available[device]))} "
        "are available"
        for device in lacking
    ]
    return f"{name} needs {'; '.join(parts)}"


def _place(device: Device) -> str:
    return "memory" if device is None else f"the memory of GPU {device}"


def shown(size_bytes: int) -> str:
    """A size as people read it."""
    if size_bytes < _GIB:
        return f"{size_bytes / _MIB:.0f} MiB"
    return f"{size_bytes / _GIB:.1f} GiB"
