"""`python -m tests.soak.leaks`: what thousands of requests leave behind in the service.

Memory and descriptors of the server and its worker after a tenth of the requests and at the end.
`--control` puts a leak in on purpose, which must be found.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from bench.load import repository_with
from bench.serving import DARKROOM, Server, serving
from darkroom.v1.image_service_pb2 import GenerateRequest
from darkroom.v1.image_service_pb2_grpc import ImageServiceStub
from tests.soak.accounts import PATIENCE_S

ROOT = Path(__file__).parents[2]
LEAKING = (sys.executable, str(Path(__file__).with_name("leaking_requests.py")))
#: What may be there at the end of what was there after a tenth.
MAX_GROWTH, MAX_MORE_FILES = 1.1, 8
AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds."""

    memory_bytes: int
    file_count: int

    @classmethod
    def by(cls, pid: int) -> Held:
        """A process, now."""
        status = Path(f"/proc/{pid}/status").read_text()
        memory = int(status.partition("VmRSS:")[2].split()[0]) * 1024
        return cls(memory, len(os.listdir(f"/proc/{pid}/fd")))


async def ask(server: Server, count: int, request: GenerateRequest) -> None:
    """So many requests, some at once, of seeds that come again; raises where one fails."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub, numbers = ImageServiceStub(channel), iter(range(count))

        async def caller() -> None:
            for number in numbers:
                one = GenerateRequest()
                one.CopyFrom(request)
                one.seed = number % 97
                async for _ in stub.Generate(one, timeout=PATIENCE_S):
                    pass

        await asyncio.gather(*(caller() for _ in range(AT_ONCE)))


def leaks(server: Server, count: int, request: GenerateRequest) -> list[str]:
    """What has grown by more than it may."""
    asyncio.run(ask(server, count // 10, request))
    time.sleep(2)  # what waits to be freed is
    pids = {"server": server.process.pid, "worker": server.worker_pid()}
    first = {name: Held.by(pid) for name, pid in pids.items()}
    asyncio.run(ask(server, count - count // 10, request))
    time.sleep(2)
    grown = []
    for name, pid in pids.items():
        before, after = first[name], Held.by(pid)
        ratio = after.memory_bytes / before.memory_bytes
        more_count = after.file_count - before.file_count
        print(
            f"{name}: {before.memory_bytes / 2**20:.1f} to {after.memory_bytes / 2**20:.1f} MiB "
            f"({ratio:.3f}), {before.file_count} to {after.file_count} descriptors"
        )
        if ratio > MAX_GROWTH or more_count > MAX_MORE_FILES:
            grown.append(name)
    return grown


def _fake(folder: Path) -> Path:
    (folder / "fake" / "1").mkdir(parents=True)
    (folder / "fake" / "config.pbtxt").write_text("backend: BACKEND_FAKE max_queue_size: 4096\n")
    return folder


def found(count: int, model: str, program: Sequence[str]) -> list[str]:
    """What leaks of a server of the fake, or of an embedded model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        is_fake = model == "fake"
        root = (
            _fake(folder)
            if is_fake
            else repository_with(folder, ROOT / "model_repo" / model, "EXACT")
        )
        edge_px, step_count = (16, 2) if is_fake else (64, 1)
        request = GenerateRequest(
            prompt="a red circle", width_px=edge_px, height_px=edge_px, step_count=step_count
        )
        with serving(root, program=program) as server:
            server.until("model", state="ready")
            return leaks(server, count, request)


def main() -> None:
    """Runs; exits with 1 where something leaks, and of a control where nothing is found."""
    parser = argparse.ArgumentParser(prog="tests.soak.leaks", description=__doc__)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--model", default="fake", help="fake, or an embedded model")
    parser.add_argument("--control", action="store_true", help="with a leak put in on purpose")
    args = parser.parse_args()
    began_s = time.monotonic()
    grown = found(args.count, args.model, LEAKING if args.control else DARKROOM)
    print(f"{args.count} requests in {time.monotonic() - began_s:.0f} s; leaks: {grown or 'none'}")
    raise SystemExit(bool(grown) != args.control)


if __name__ == "__main__":
    main()
