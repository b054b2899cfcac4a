"""Open-loop load on a real server: requests come when they are due, whatever became of others.

Latency counts from the scheduled arrival, so a generator that falls behind hides nothing.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from bench.pipelines import PROMPT
from bench.virtual import Trace
from bench.workloads import Arrival
from darkroom_client import AsyncClient, DarkroomError, GenerateOptions

#: A request that was told no deadline is given up after this, so that a measurement ends.
GIVE_UP_S = 300.0


def play_server(
    address: str, arrivals: Sequence[Arrival], deadlines_s: Sequence[float | None]
) -> Trace:
    """Plays arrivals in real time; what fails or is late has no finish."""
    return asyncio.run(_play(address, arrivals, deadlines_s))


async def _play(
    address: str, arrivals: Sequence[Arrival], deadlines_s: Sequence[float | None]
) -> Trace:
    trace = Trace()
    async with AsyncClient(address, max_attempts=1) as client:
        started_s = time.perf_counter()

        async def one_request(one: Arrival) -> None:
            await asyncio.sleep(max(0.0, started_s + one.at_s - time.perf_counter()))
            deadline_s = deadlines_s[one.index]
            elapsed_s = time.perf_counter() - started_s
            timeout_s = GIVE_UP_S if deadline_s is None else deadline_s - elapsed_s
            try:
                await request(client, one, timeout_s)
            except DarkroomError:
                return
            trace.finished_s[one.index] = time.perf_counter() - started_s

        await asyncio.gather(*map(one_request, arrivals))
        trace.end_s = time.perf_counter() - started_s
    return trace


async def request(
    client: AsyncClient, one: Arrival, timeout_s: float = GIVE_UP_S, **more: Unpack[GenerateOptions]
) -> bytes:
    """The PNG of one request."""
    made = await client.generate(PROMPT, timeout=timeout_s, **options(one), **more)
    return made.images[0].content


def options(one: Arrival) -> GenerateOptions:
    """What a request asks for, but its prompt; its seed is its index."""
    return {
        "steps": one.step_count,
        "guidance_scale": one.guidance_scale,
        "width": one.size_px,
        "height": one.size_px,
        "scheduler": one.scheduler,
        "seed": one.index,
    }


def repository_with(folder: Path, model: Path, reproducibility: str) -> Path:
    """A repository in `folder` with a copy of one model, its level written."""
    copy = folder / model.name
    # What is written below, or by a server (which has a dot), must not be the model's own file.
    written = shutil.ignore_patterns(".*", "config.pbtxt")
    shutil.copytree(model, copy, copy_function=_linked, ignore=written)
    config = (model / "config.pbtxt").read_text(encoding="utf-8")
    level = f"reproducibility: REPRODUCIBILITY_{reproducibility}\n"
    queue = "max_queue_size: 4096\n"
    (copy / "config.pbtxt").write_text(config + "\n" + level + queue, encoding="utf-8")
    return folder


def _linked(source: str, target: str) -> None:
    """Links a file, which may have gigabytes, or copies it from another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
