"""A kind of accelerator is one class and one entry; everything that asks for devices finds it."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import pytest

from darkroom_server.cli import diagnosis
from darkroom_server.config import ServerConfig
from darkroom_server.devices import kinds
from darkroom_server.devices.kind import AcceleratorKind, Runtime
from darkroom_server.domain.errors import GenerationFailed, OutOfDeviceMemory
from darkroom_server.domain.models import DeviceKind, Placement
from darkroom_server.engine.memory import SystemMemory
from darkroom_server.lifecycle.memory import device_of
from darkroom_server.worker.failures import DeviceLost, attempt

GIB = 1 << 30


class Abacus(AcceleratorKind):
    """Two devices; one process uses 3 GiB of the first."""

    torch_type = "abacus"
    toolkit = "abacus"
    out_of_memory_messages = ("ABACUS: no beads left",)
    lost_device_messages = ("ABACUS:",)

    def driver_device_count(self) -> int:
        return 2

    def driver_device_name(self, index: int) -> str:
        return f"Abacus {index}"

    def free_bytes(self, index: int) -> int | None:
        return (5 + index) * GIB if index < 2 else None

    def held_bytes(self, index: int, pids: Collection[int]) -> int:
        return 3 * GIB if index == 0 and 7 in pids else 0


@pytest.fixture(autouse=True)
def entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "KINDS", (*kinds.KINDS, Abacus()))
    # Not the machine's own GPUs, if it has some.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def failing(message: str) -> object:
    def work() -> None:
        raise RuntimeError(message)

    return attempt(work)


def test_the_engine_counts_its_devices_and_asks_for_their_memory() -> None:
    memory = SystemMemory()
    assert memory.gpu_count() == 2
    assert [memory.available_bytes(index) for index in (0, 1, 2)] == [5 * GIB, 6 * GIB, None]
    assert [memory.held_bytes([7, 8], index) for index in (0, 1)] == [3 * GIB, 0]
    assert device_of(Placement(DeviceKind.AUTO, None), memory.gpu_count()) == 0


def test_a_worker_understands_its_failures() -> None:
    assert isinstance(failing("ABACUS: no beads left for 8 bytes"), OutOfDeviceMemory)
    assert isinstance(failing("something else"), GenerationFailed)
    with pytest.raises(DeviceLost):
        failing("ABACUS: a rod broke")


def test_darkroom_doctor_names_its_devices(tmp_path: Path) -> None:
    found = diagnosis._devices(ServerConfig(model_repository=str(tmp_path)))
    assert [one.text.split("; ")[1:] for one in found] == [
        ["Abacus 0, 5120 MiB", "Abacus 1, 6144 MiB"]
    ]


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.torch_type)
def test_the_fork_server_has_the_environment_of_every_kind(kind: AcceleratorKind) -> None:
    import darkroom_server.worker.preload  # noqa: F401

    assert {name: os.environ.get(name) for name in kind.environment} == dict(kind.environment)


def test_what_a_kind_does_not_say_has_a_harmless_answer() -> None:
    class Plain(AcceleratorKind):
        torch_type = "plain"

    plain, runtime = Plain(), FakeRuntime()
    assert (plain.driver_device_count(), plain.free_bytes(0), plain.held_bytes(0, [1])) == (
        0,
        None,
        0,
    )
    assert plain.driver_device_name(1) == "plain:1"
    assert not plain.multiplies_fp8(runtime, None)
    assert (plain.is_available(runtime), plain.device_count(runtime)) == (True, 3)
    plain.synchronize(runtime, 2)
    assert runtime.waited_for == [2]
    assert (plain.peak_memory_bytes(runtime, 2), plain.device_name(runtime, 2)) == (2, "device 2")


class FakeRuntime(Runtime):
    """As a module of torch answers."""

    def __init__(self) -> None:
        self.waited_for: list[int | None] = []

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 3

    def synchronize(self, device: int | None = None) -> None:
        self.waited_for.append(device)

    def max_memory_allocated(self, device: int | None = None) -> int:
        return device or 0

    def get_device_name(self, device: int | None = None) -> str:
        return f"device {device}"

    def get_device_capability(self, device: int | None = None) -> tuple[int, int]:
        raise NotImplementedError
