"""The server that faults are done to: its processes, its log, its callers' account."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import grpc

from bench.serving import Server
from tests.soak.accounts import PATIENCE_S, Account, Crowd

MODEL, HANG_LIMIT_S = "fake", 3
CONFIG = """
backend: BACKEND_FAKE fake { step_s: 0.01 } max_queue_size: 20000
instance_group { count: 2 kind: KIND_CPU }
"""
FLAGS = (
    *("--model-control", "poll", "--repository-poll", "0.2", "--repository-settle", "0"),
    *("--worker-hang-limit", str(HANG_LIMIT_S)),
)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@dataclass(slots=True)
class Stand:
    """A server that faults are done to. `count`: how often, or how many."""

    root: Path
    server: Server
    crowd: Crowd
    count: int
    rng: random.Random
    #: What became of the callers' requests so far.
    account: Account = field(default_factory=Account)

    def workers(self) -> list[int]:
        """Process ids of workers that live."""
        pids = [one["pid"] for one in self.server.log if one.get("event") == "worker ready"]
        return [pid for pid in pids if is_alive(pid)]

    async def worker(self) -> int:
        """One of them, at random; waits until there is one."""
        return self.rng.choice(await until(self.workers))

    async def served(self, count: int) -> None:
        """Returns when so many more requests have been made."""
        before = self.account.outcomes["made"]
        await until(lambda: self.account.outcomes["made"] >= before + count)

    def fork_server(self) -> int:
        """What starts the workers."""
        parents = {parent_of(pid) for pid in self.workers()}
        found = [pid for pid in parents if parent_of(pid) == self.server.process.pid]
        return found[0] if found else 0

    async def logged(self, after: int, **values: object) -> None:
        """Returns when an entry with these values is in the log."""
        await until(
            lambda: [one for one in self.server.log[after:] if values.items() <= one.items()]
        )


Found = TypeVar("Found")


async def until(look: Callable[[], Found]) -> Found:
    """What a look finds, once it finds something."""
    until_s = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < until_s, "it did not come to be"
        await asyncio.sleep(0.02)
    return found


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def parent_of(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def repository(root: Path) -> Path:
    """Of the fake model alone."""
    (root / MODEL / "1").mkdir(parents=True)
    (root / MODEL / "config.pbtxt").write_text(CONFIG)
    return root
