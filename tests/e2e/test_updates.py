"""Versions of the embedded model swap, and its worker is killed, while callers ask for pictures."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.serving import Server, connected, serving
from darkroom_client import Client, Generation

REPOSITORY = Path(__file__).parents[2] / "model_repo"
STEPS = 8


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "tiny-sdxl", tmp_path / "tiny-sdxl")
    return tmp_path


@pytest.fixture
def server(root: Path) -> Iterator[Server]:
    flags = ("--model-control", "poll", "--repository-poll", "0.2", "--worker-thread-count", "1")
    with serving(root, *flags) as server, connected(server):
        yield server


def ask(client: Client, seed: int) -> Generation:
    return client.generate(
        "a red circle", model="tiny-sdxl", steps=STEPS, width=128, height=128, seed=seed
    )


def swapped(server: Server, root: Path, version: int) -> None:
    """Puts a new version there file by file, as a slow copy does, and waits until it serves."""
    old, new = root / "tiny-sdxl" / "2", root / "tiny-sdxl" / str(version)
    for path in sorted(old.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            to = new / path.relative_to(old)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, to)
            time.sleep(0.02)
    server.until("model", model=f"tiny-sdxl/{version}", state="ready")


def test_no_request_fails_and_none_changes_its_version_while_the_model_swaps_twice(
    server: Server, root: Path
) -> None:
    count = 60
    with Client(server.address) as client, ThreadPoolExecutor(4) as pool:
        alone = {seed: ask(client, seed).images[0].content for seed in range(3)}
        futures = [pool.submit(ask, client, k % 3) for k in range(count)]
        for version in (3, 4):
            swapped(server, root, version)
        futures += [pool.submit(ask, client, k % 3) for k in range(4)]
        made = [future.result() for future in futures]
    assert {one.parameters.model_version for one in made} >= {2, 4}
    for k, one in enumerate(made):
        # All versions hold the same weights.
        assert one.images[0].content == alone[(k if k < count else k - count) % 3]


def test_every_request_has_its_picture_though_the_worker_is_killed_twice(
    server: Server,
) -> None:
    rng = random.Random(0)
    with Client(server.address) as client, ThreadPoolExecutor(4) as pool:
        alone = {seed: ask(client, seed).images[0].content for seed in range(3)}
        futures = [pool.submit(ask, client, k % 3) for k in range(30)]
        # A third death would be held against a request that was at work each time.
        for _ in range(2):
            time.sleep(rng.uniform(0.2, 0.6))
            logged = len(server.log)
            os.kill(server.worker_pid(), signal.SIGKILL)
            server.until("worker ready", after=logged)
        made = [future.result() for future in futures]
    assert [one.images[0].content for one in made] == [alone[k % 3] for k in range(30)]
