"""What worker processes start with."""

from __future__ import annotations

import errno
import multiprocessing
import os
from typing import Any

import pytest

from darkroom_server.engine import worker_process as instance_module
from darkroom_server.engine.worker_process import ALLOCATOR, WorkerProcess, prepare_fork_server

SPEC: Any = None


def test_workers_keep_freed_memory_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {"MALLOC_TRIM_THRESHOLD_": "1"}
    monkeypatch.setattr(os, "environ", given)
    prepare_fork_server(preload_torch=False)
    assert {name: given[name] for name in ALLOCATOR} == ALLOCATOR | {"MALLOC_TRIM_THRESHOLD_": "1"}


@pytest.mark.parametrize(
    ("given", "spins"),
    [
        ({}, "1000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, None),
    ],
)
def test_workers_threads_soon_sleep_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], spins: str | None
) -> None:
    monkeypatch.setattr(os, "environ", given)
    prepare_fork_server(preload_torch=False)
    assert given.get("GOMP_SPINCOUNT") == spins


@pytest.mark.parametrize(("given", "told"), [({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")])
def test_libraries_in_workers_report_their_use_to_nobody(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], told: str
) -> None:
    """ONNX Runtime looks at it when it is imported, and sends from then on."""
    monkeypatch.setattr(os, "environ", given)
    prepare_fork_server(preload_torch=False)
    assert given["ORT_DISABLE_TELEMETRY"] == told


async def test_a_worker_that_nobody_can_listen_to_is_ended_and_told_as_the_systems_doing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[str] = []

    class Started:
        def __init__(self, **_: Any) -> None:
            self.pid = 1

        def start(self) -> None:
            """Is there at once."""

        def kill(self) -> None:
            ended.append("killed")

    class Context:
        Process = Started

        def Pipe(self, *, duplex: bool) -> tuple[Any, Any]:
            assert duplex
            return multiprocessing.Pipe()

    class Refused:
        def __init__(self, **_: Any) -> None:
            """A thread that is not there yet."""

        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    instance = WorkerProcess(SPEC, on_report=ended.append, on_exit=lambda _: ended.append("exit"))
    monkeypatch.setattr(instance_module.multiprocessing, "get_context", lambda _: Context())
    monkeypatch.setattr(instance_module.threading, "Thread", Refused)
    with pytest.raises(OSError, match="unavailable") as caught:
        instance._start()
    assert caught.value.errno == errno.EAGAIN
    assert ended == ["killed"]
