"""`python -m tests.soak.kills`: kill -9 of the worker every so often, under load, for some minutes.

Each request has one outcome and the bytes that it always has; counted is what is done twice: the
steps that callers were told of before a kill, less those from which their images went on after it.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import signal
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from bench.serving import Server, serving
from darkroom.v1.image_service_pb2 import GenerateRequest
from darkroom.v1.image_service_pb2_grpc import ImageServiceStub
from tests.soak.accounts import PATIENCE_S, RETRY_S
from tests.soak.stand import MODEL, is_alive, until

CONFIG = "backend: BACKEND_FAKE fake { step_s: 0.05 } max_queue_size: 20000\n"
EDGE_PX, STEP_COUNT, SEED_COUNT = 16, 40, 64
#: Requests that a kill may hold up are compared with those before the first.
QUIET_SHARE = 0.1


@dataclass(slots=True)
class Tally:
    """What became of all requests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong_count: int = 0
    doubled_count: int = 0
    latencies_s: list[tuple[float, float]] = field(default_factory=list)
    #: By job under way: steps that its caller was told of.
    told_steps: dict[str, int] = field(default_factory=dict)
    #: By job: when it ended.
    ended_s: dict[str, float] = field(default_factory=dict)
    known: dict[int, bytes] = field(default_factory=dict)
    seeds: itertools.count[int] = field(default_factory=itertools.count)


async def _one(stub: ImageServiceStub, tally: Tally) -> str:
    seed, job_id, content, completed_count = next(tally.seeds) % SEED_COUNT, "", b"", 0
    request = GenerateRequest(
        prompt="x", model=MODEL, width_px=EDGE_PX, height_px=EDGE_PX, step_count=STEP_COUNT
    )
    request.seed = seed
    began_s = time.monotonic()
    try:
        async for response in stub.Generate(request, timeout=PATIENCE_S):
            event = response.event
            kind = event.WhichOneof("event")
            if kind == "accepted":
                job_id = event.accepted.generation_id
            elif kind == "progress":
                tally.told_steps[job_id] = event.progress.completed_step_count
            elif kind == "chunk":
                content += event.chunk.content
            completed_count += kind == "completed"
    except grpc.aio.AioRpcError as error:
        is_lost = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        return "lost" if is_lost else error.code().name
    finally:
        tally.told_steps.pop(job_id, None)
        tally.ended_s[job_id] = time.monotonic()
    tally.latencies_s.append((began_s, time.monotonic() - began_s))
    tally.doubled_count += completed_count != 1
    tally.wrong_count += content != tally.known.setdefault(seed, content)
    return "made"


async def _caller(address: str, tally: Tally, is_over: asyncio.Event) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = ImageServiceStub(channel)
        while not is_over.is_set():
            outcome = await _one(stub, tally)
            tally.outcomes[outcome] += 1
            if outcome != "made":
                await asyncio.sleep(RETRY_S)


async def kills(
    server: Server, *, for_s: float, every_s: float, caller_count: int
) -> tuple[Tally, list[float], float]:
    """The tally, the steps done twice at each kill per image at work, and when the first was."""
    tally, is_over, twice = Tally(), asyncio.Event(), list[float]()
    callers = [
        asyncio.ensure_future(_caller(server.address, tally, is_over)) for _ in range(caller_count)
    ]
    ends_s = time.monotonic() + for_s
    await asyncio.sleep(max(every_s, QUIET_SHARE * for_s))
    first_s = time.monotonic()
    while time.monotonic() < ends_s:
        after = len(server.log)
        pid = server.worker_pid()
        told = dict(tally.told_steps)
        os.kill(pid, signal.SIGKILL)
        await until(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]
        await until(lambda pid=pid: server.worker_pid() != pid)  # type: ignore[misc]
        ready_s = time.monotonic()
        await asyncio.sleep(every_s)
        resumed = {
            entry["job_id"]: entry["completed_step_count"]
            for entry in server.log[after:]
            if entry.get("event") == "image resumed"
        }
        # Those that had ended before the next worker was there had nothing left to do twice.
        twice += [
            max(0, steps - resumed.get(job_id, 0))
            for job_id, steps in told.items()
            if job_id in resumed or tally.ended_s.get(job_id, ready_s) >= ready_s
        ]
    is_over.set()
    await asyncio.gather(*callers)
    return tally, twice, first_s


def main() -> None:
    """Runs, prints, and exits with 1 where anything was lost, doubled or of other bytes."""
    parser = argparse.ArgumentParser(prog="tests.soak.kills", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two kills")
    parser.add_argument("--callers", type=int, default=16)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "models"
        (root / MODEL / "1").mkdir(parents=True)
        (root / MODEL / "config.pbtxt").write_text(CONFIG)
        with serving(root) as server:
            server.until("model", state="ready")
            running = kills(
                server, for_s=60 * args.minutes, every_s=args.every, caller_count=args.callers
            )
            tally, twice, first_s = asyncio.run(running)
    before = sorted(took_s for began_s, took_s in tally.latencies_s if began_s < first_s)
    after = sorted(took_s for began_s, took_s in tally.latencies_s if began_s >= first_s)
    ratio = after[int(0.99 * len(after))] / before[int(0.99 * len(before))]
    print(
        f"{tally.outcomes.total()} requests: {dict(tally.outcomes)}; doubled {tally.doubled_count},"
        f" of other bytes {tally.wrong_count}; {len(twice)} images at work at kills, steps done "
        f"twice {statistics.fmean(twice):.2f} in the mean, {max(twice):.0f} at most; "
        f"p99 with kills / before {ratio:.2f}"
    )
    is_sound = set(tally.outcomes) == {"made"} and not tally.doubled_count + tally.wrong_count
    raise SystemExit(0 if is_sound else 1)


if __name__ == "__main__":
    main()
