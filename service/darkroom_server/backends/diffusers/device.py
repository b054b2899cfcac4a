"""The device that a pipeline runs on: the processor, or an accelerator of some kind."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import cast

import torch

from darkroom_server.devices import kinds
from darkroom_server.devices.kind import Ability, AcceleratorKind, Runtime
from darkroom_server.domain.errors import ModelUnavailable
from darkroom_server.domain.models import DeviceKind, Placement


@dataclass(frozen=True, slots=True)
class Device:
    """`kind` None is the processor; `index` None is the first device, or the only one."""

    kind: AcceleratorKind | None = None
    index: int | None = None

    @property
    def torch(self) -> torch.device:
        """As torch takes it."""
        if self.kind is None:
            return torch.device("cpu")
        name = self.kind.torch_type
        return torch.device(name if self.index is None else f"{name}:{self.index}")

    def has(self, ability: Ability) -> bool:
        """Whether it can do something that a processor cannot."""
        return self.kind is not None and ability in self.kind.abilities

    def multiplies_fp8(self) -> bool:
        """Whether it multiplies 8-bit floating point in hardware."""
        return self.kind is not None and self.kind.multiplies_fp8(_runtime(self.kind), self.index)

    def synchronize(self) -> None:
        """Waits for everything that was started on it; nothing to wait for on a processor."""
        if self.kind is not None:
            self.kind.synchronize(_runtime(self.kind), self.index)

    def peak_memory_bytes(self) -> int:
        """The most of an accelerator's memory that tensors have taken; 0 for a processor."""
        if self.kind is None:
            return 0
        return self.kind.peak_memory_bytes(_runtime(self.kind), self.index)

    def name(self) -> str:
        """The product's name; of a processor its architecture, vector unit and thread count."""
        if self.kind is not None:
            return self.kind.device_name(_runtime(self.kind), self.index)
        vectors = torch.backends.cpu.get_cpu_capability().lower()
        return f"{platform.machine()} {vectors} {torch.get_num_threads()} threads"


def device_of(device: torch.device) -> Device:
    """The device that torch's value stands for."""
    for kind in kinds.KINDS:
        if kind.torch_type == device.type and kind.is_available(_runtime(kind)):
            return Device(kind, device.index)
    return Device()


def best_device() -> Device:
    """An accelerator of the first kind that is there, or the processor."""
    return Device(next((kind for kind in kinds.KINDS if kind.is_available(_runtime(kind))), None))


def placed(model_name: str, placement: Placement) -> Device:
    """The device that a configuration asks for; raises ModelUnavailable where it is not there."""
    match placement:
        case Placement(DeviceKind.CPU):
            return Device()
        case Placement(DeviceKind.AUTO, None):
            return best_device()
        case Placement(gpu=index):
            kind = best_device().kind
            if kind is None:
                raise ModelUnavailable(
                    model_name, "The configuration asks for a GPU; there is none."
                )
            found_count = kind.device_count(_runtime(kind))
            if index is not None and index >= found_count:
                raise ModelUnavailable(
                    model_name, f"The configuration asks for GPU {index}; GPUs here: {found_count}."
                )
            return Device(kind, index)


def toolkit_versions() -> dict[str, str]:
    """Versions of the toolkits that torch was built with, by the name of each known one."""
    return {kind.toolkit: getattr(torch.version, kind.toolkit, None) or "" for kind in kinds.KINDS}


def _runtime(kind: AcceleratorKind) -> Runtime:
    return cast("Runtime", torch.get_device_module(kind.torch_type))
