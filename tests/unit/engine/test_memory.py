"""What control groups leave, from files as the kernel writes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from darkroom_server.engine.memory import SystemMemory, cgroup_available_bytes


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
    assert memory.available_bytes(memory.gpu_count() + 5) is None
