"""What control groups and drivers say of memory, and what is made of it."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from darkroom_server.devices import cuda
from darkroom_server.domain.errors import NotEnoughMemory
from darkroom_server.domain.models import BackendKind, DeviceKind, Placement, VersionInfo
from darkroom_server.engine import worker_slot as slot_module
from darkroom_server.engine.memory import SystemMemory, cgroup_available_bytes
from darkroom_server.engine.memory_gate import MemoryGate
from darkroom_server.engine.supervisor import Supervisor
from darkroom_server.telemetry.metrics import Metrics
from tests.unit.engine.scripted import ScriptedProcess
from tests.unit.example_models import SDXL

GIB = 1 << 30


def group(folder: Path, **content: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        (folder / f"memory.{name}").write_text(text)


@pytest.mark.parametrize(
    ("own", "above", "left"),
    [
        pytest.param("1000", "max", 1000 - 700 + 50, id="own-limit"),
        pytest.param("max", "900", 900 - 700 + 50, id="limit-above"),
        pytest.param("1000", "800", 800 - 700 + 50, id="the-tighter-one"),
        pytest.param("max", "max", None, id="no-limit"),
    ],
)
def test_version_2(tmp_path: Path, own: str, above: str, left: int | None) -> None:
    stat = "anon 650\ninactive_file 50\nactive_file 7\n"
    group(tmp_path / "a" / "b", max=own, current="700", stat=stat)
    group(tmp_path / "a", max=above, current="700", stat=stat)
    assert cgroup_available_bytes(tmp_path, "/a/b") == left


def test_version_1_and_a_group_that_is_not_to_be_seen(tmp_path: Path) -> None:
    stat = "inactive_file 9\ntotal_inactive_file 50\n"
    group(tmp_path / "memory", limit_in_bytes="1000", usage_in_bytes="700", stat=stat)
    assert cgroup_available_bytes(tmp_path, "/hidden/from/here") == 350


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert cgroup_available_bytes(tmp_path / "none", "/") is None


def test_this_machine_has_memory_and_this_process_holds_some() -> None:
    memory = SystemMemory()
    available = memory.available_bytes(None)
    assert available is not None
    assert available > 1 << 20
    assert memory.held_bytes([os.getpid()]) > 1 << 20
    assert memory.growth_bytes([os.getpid()]) >= 0
    assert memory.held_bytes([2**22 + 1]) == memory.growth_bytes([2**22 + 1]) == 0


def test_a_gpu_that_is_not_there_is_not_known() -> None:
    memory = SystemMemory()
    absent = memory.gpu_count() + 5
    assert memory.available_bytes(absent) is None
    assert memory.held_bytes([os.getpid()], absent) == 0


class Driver:
    """A GPU's driver with one GPU, on which two processes run."""

    NVMLError = RuntimeError

    def __getattr__(self, name: str) -> Any:
        answers = {
            "nvmlDeviceGetCount": 1,
            "nvmlDeviceGetHandleByIndex": "gpu",
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(free=50 * GIB),
            "nvmlDeviceGetComputeRunningProcesses": [
                SimpleNamespace(pid=1, usedGpuMemory=30 * GIB),
                # As where the driver may not tell.
                SimpleNamespace(pid=1, usedGpuMemory=None),
                SimpleNamespace(pid=2, usedGpuMemory=GIB),
            ],
        }
        return lambda *_: answers.get(name)


@pytest.fixture
def gpu_memory(monkeypatch: pytest.MonkeyPatch) -> SystemMemory:
    monkeypatch.setattr(cuda, "pynvml", Driver())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return SystemMemory()


def test_of_a_gpu_the_driver_says_what_is_free_and_who_has_it(gpu_memory: SystemMemory) -> None:
    assert (gpu_memory.available_bytes(0), gpu_memory.available_bytes(1)) == (50 * GIB, None)
    assert gpu_memory.held_bytes([1, 7], 0) == 30 * GIB


def with_weights(folder: Path, size_gib: int) -> Path:
    """A version whose file is all hole: one that cannot be read counts with its size."""
    path = folder / str(size_gib)
    path.mkdir(exist_ok=True)
    with (path / "w.safetensors").open("wb") as file:
        file.truncate(size_gib * GIB)
    return path


@pytest.mark.parametrize(("weights", "fits"), [(46, True), (47, False)])
async def test_what_a_load_has_taken_of_a_gpu_is_not_counted_twice(
    gpu_memory: SystemMemory,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    weights: int,
    fits: bool,
) -> None:
    """Of 80 GiB a first version of 33 has read 30, and needs 3 more of the 50 that are free; a
    worker takes 1 beside its weights.
    """
    monkeypatch.setattr(slot_module, "WorkerProcess", ScriptedProcess)
    ScriptedProcess.running = []
    gpu = Placement(DeviceKind.GPU, 0)
    model = replace(SDXL, placements=(gpu,), backend=BackendKind.DIFFUSERS)
    first, second = (
        VersionInfo(
            model=model, version=1, path=with_weights(tmp_path, size), digest="", weight_bytes=0
        )
        for size in (33, weights)
    )
    loading = Supervisor(
        first,
        thread_count=1,
        prompt_cache_bytes=0,
        metrics=Metrics(),
        on_change=lambda: None,
        hang_limit_s=0.0,
    )
    await loading.start()
    gate = MemoryGate(gpu_memory)
    with nullcontext() if fits else pytest.raises(NotEnoughMemory):
        gate.check(second, [loading])


@pytest.mark.parametrize(
    ("visible", "count"), [("-1", 0), ("", 0), ("0", 1), ("9,0", 0), ("0,9", 1), ("GPU-1f", 1)]
)
def test_gpus_are_counted_as_cuda_reads_the_variable(
    gpu_memory: SystemMemory, monkeypatch: pytest.MonkeyPatch, visible: str, count: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_memory.gpu_count() == count
