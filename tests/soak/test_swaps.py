"""Versions that swap hundreds of times leave nothing behind: no memory, no file, no time.

`make soak` runs the long form. The short one is for every day, and asserts no time.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.serving import DARKROOM, Server, connected, serving
from darkroom_client import Client

#: What may be left at the end, of what was there at the start.
LIMIT = 1.1
PAIRS = 300
LEAKING = (sys.executable, "-m", "tests.soak.leaking_server")
FLAGS = ("--model-control", "poll", "--repository-poll", "0.05", "--repository-settle", "0")


@dataclass(frozen=True, slots=True)
class Measured:
    """What the server's process holds, and what a request takes."""

    memory_bytes: int
    file_count: int
    request_s: float = 0.0


def measured(server: Server) -> Measured:
    """The least of some looks: a worker that left a moment ago may still be being cleared away."""
    process = Path(f"/proc/{server.process.pid}")
    looks = []
    for _ in range(10):
        pages = int((process / "statm").read_text().split()[1])
        looks.append((pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(process / "fd"))))
        time.sleep(0.1)
    return Measured(min(memory for memory, _ in looks), min(count for _, count in looks))


def grown(start: Measured, end: Measured) -> list[str]:
    """Which of the measures are more than the limit allows."""
    ratios = {
        "memory": end.memory_bytes / start.memory_bytes,
        "files": end.file_count / start.file_count,
        "time": end.request_s / start.request_s if start.request_s else 1.0,
    }
    print("grown to:", {name: round(ratio, 3) for name, ratio in ratios.items()}, start, end)
    return [name for name, ratio in ratios.items() if ratio > LIMIT]


def add_version(root: Path, version: int) -> None:
    draft = root / ".draft"
    draft.mkdir()
    (draft / "weights").write_text(f"weights {version}")
    draft.rename(root / "fake" / str(version))


def swap(server: Server, root: Path, client: Client, versions: range) -> None:
    """Each version takes the place of the one before, and is asked for a picture."""
    for version in versions:
        logged = len(server.log)
        add_version(root, version)
        server.until("model", after=logged, model=f"fake/{version}", state="ready")
        [image] = client.generate("anything", seed=3, steps=2, width=64, height=64).images
        assert image.seed == 3
        shutil.rmtree(root / "fake" / str(version - 1))
        server.until("model", after=logged, model=f"fake/{version - 1}", state="unloaded")


@contextmanager
def fresh(root: Path, program: tuple[str, ...] = DARKROOM) -> Iterator[tuple[Server, Client]]:
    with serving(root, *FLAGS, program=program) as server, connected(server) as client:
        yield server, client


def request_times(aged: Client, new: Client) -> tuple[float, float]:
    """Medians of a request's seconds; by turns, so that a busy machine slows both."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(PAIRS):
        for client, taken_s in zip((aged, new), times, strict=True):
            begun_s = time.perf_counter()
            client.generate("anything", seed=3, steps=2, width=64, height=64)
            taken_s.append(time.perf_counter() - begun_s)
    return statistics.median(times[0]), statistics.median(times[1])


def soak(root: Path, swap_count: int, program: tuple[str, ...], *, timed: bool) -> list[str]:
    """What has grown between the first tenth of the swaps, in which caches fill, and the last."""
    (root / "fake").mkdir(parents=True)
    (root / "fake" / "config.pbtxt").write_text("backend: BACKEND_FAKE\n")
    add_version(root, 1)
    warm_count = max(10, swap_count // 10)
    with fresh(root, program) as (server, client):
        swap(server, root, client, range(2, warm_count + 2))
        start = measured(server)
        swap(server, root, client, range(warm_count + 2, swap_count + 2))
        end = measured(server)
        end_s = start_s = 0.0
        if timed:
            with fresh(root, program) as (_, new_client):
                end_s, start_s = request_times(client, new_client)
    return grown(
        Measured(start.memory_bytes, start.file_count, start_s),
        Measured(end.memory_bytes, end.file_count, end_s),
    )


def test_forty_swaps_leave_no_memory_and_no_file(tmp_path: Path) -> None:
    assert soak(tmp_path / "root", 40, DARKROOM, timed=False) == []


def test_memory_and_files_that_forty_swaps_leave_are_found(tmp_path: Path) -> None:
    assert soak(tmp_path / "root", 40, LEAKING, timed=False) == ["memory", "files"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_hundred_swaps_leave_nothing(tmp_path: Path) -> None:
    assert soak(tmp_path / "root", 500, DARKROOM, timed=True) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_a_hundred_swaps_leave_is_found(tmp_path: Path) -> None:
    found = soak(tmp_path / "root", 100, LEAKING, timed=True)
    assert found == ["memory", "files", "time"]
