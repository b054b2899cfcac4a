"""Versions that swap hundreds of times leave nothing behind: no memory, no file, no time.

`make soak` runs the long form. The short one is for every day, and asserts no time.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.serving import DARKROOM, Server, connected, serving
from darkroom_client import Client

#: What may be left at the end, of what was there at the start.
LIMIT = 1.1
ROUNDS, PAIRS = 10, 200
LEAKING = (sys.executable, str(Path(__file__).with_name("leaking_server.py")))
FLAGS = ("--model-control", "poll", "--repository-poll", "0.05", "--repository-settle", "0")


@dataclass(frozen=True, slots=True)
class Measured:
    """What the server's process holds, and how long requests take against a steady server's."""

    memory_bytes: int
    file_count: int
    slowness: float


def grown(start: Measured, end: Measured) -> list[str]:
    """Which of the measures are more than the limit allows."""
    ratios = {
        "memory": end.memory_bytes / start.memory_bytes,
        "files": end.file_count / start.file_count,
        "time": end.slowness / start.slowness,
    }
    print("grown to:", {name: round(ratio, 3) for name, ratio in ratios.items()}, start, end)
    return [name for name, ratio in ratios.items() if ratio > LIMIT]


def add_version(root: Path, version: int) -> None:
    draft = root / ".draft"
    draft.mkdir()
    (draft / "weights").write_text(f"weights {version}")
    draft.rename(root / "fake" / str(version))


@dataclass(slots=True)
class Soaked:
    """A server whose versions swap, and another of the same program whose version stays."""

    root: Path
    server: Server
    client: Client
    steady: Client
    version: int = 1

    def swap(self, count: int) -> None:
        """Versions take the place of the one before, and each is asked for a picture."""
        for _ in range(count):
            logged, self.version = len(self.server.log), self.version + 1
            before = f"fake/{self.version - 1}"
            add_version(self.root, self.version)
            self._until(logged, f"fake/{self.version}", "ready")
            assert ask(self.client) > 0
            shutil.rmtree(self.root / before)
            self._until(logged, before, "unloaded")

    def _until(self, logged: int, model: str, state: str) -> None:
        self.server.until("model", after=logged, model=model, state=state)

    def measured(self, *, timed: bool) -> Measured:
        """The least of some looks: what left a moment ago may still be being cleared away."""
        process = Path(f"/proc/{self.server.process.pid}")
        looks = []
        for _ in range(10):
            pages = int((process / "statm").read_text().split()[1])
            looks.append((pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(process / "fd"))))
            time.sleep(0.1)
        memory_bytes, file_count = (min(seen) for seen in zip(*looks, strict=True))
        return Measured(memory_bytes, file_count, self._slowness() if timed else 1.0)

    def _slowness(self) -> float:
        """By turns, so that a busy machine slows both, and over workers, which differ.

        Of the times the lower quartile: what else runs on the machine only ever adds.
        """
        own_s, steady_s = [], []
        for _ in range(ROUNDS):
            self.swap(1)
            for _ in range(PAIRS):
                own_s.append(ask(self.client))
                steady_s.append(ask(self.steady))
        own, steady = (statistics.quantiles(times, n=4)[0] for times in (own_s, steady_s))
        return own / steady


def ask(client: Client) -> float:
    """Seconds that a small picture takes."""
    begun_s = time.perf_counter()
    [image] = client.generate("anything", seed=3, steps=2, width=64, height=64).images
    assert image.seed == 3
    return time.perf_counter() - begun_s


def repository(root: Path) -> Path:
    (root / "fake").mkdir(parents=True)
    (root / "fake" / "config.pbtxt").write_text("backend: BACKEND_FAKE\n")
    add_version(root, 1)
    return root


def soak(folder: Path, swap_count: int, program: tuple[str, ...], *, timed: bool) -> list[str]:
    """What has grown between the first swaps, in which caches fill, and the last."""
    root = repository(folder / "swapping")
    with (
        serving(root, *FLAGS, program=program) as server,
        connected(server) as client,
        serving(repository(folder / "steady"), program=program) as steady_server,
        connected(steady_server) as steady,
    ):
        soaked = Soaked(root, server, client, steady)
        soaked.swap(max(10, swap_count // 10))
        start = soaked.measured(timed=timed)
        soaked.swap(swap_count - soaked.version)
        return grown(start, soaked.measured(timed=timed))


def test_forty_swaps_leave_no_memory_and_no_file(tmp_path: Path) -> None:
    assert soak(tmp_path, 40, DARKROOM, timed=False) == []


def test_memory_and_files_that_forty_swaps_leave_are_found(tmp_path: Path) -> None:
    assert soak(tmp_path, 40, LEAKING, timed=False) == ["memory", "files"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_hundred_swaps_leave_nothing(tmp_path: Path) -> None:
    assert soak(tmp_path, 500, DARKROOM, timed=True) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_a_hundred_swaps_leave_is_found(tmp_path: Path) -> None:
    found = soak(tmp_path, 100, LEAKING, timed=True)
    assert found == ["memory", "files", "time"]
