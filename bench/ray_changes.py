"""Replicas that come and go under load, a hot swap meanwhile, cancels at once: `make ray-changes`.

On Ray nodes of this machine. Figures are printed as lines of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
import time
import urllib.request
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, aclosing, suppress
from pathlib import Path

from bench.ray_faults import Seen, ready
from bench.ray_nodes import cluster, server, told, write_model
from darkroom_client import AsyncClient
from darkroom_client.events import Progress

CANCEL_COUNT, CANCEL_STEP_S = 200, 0.5
CANCELLED = """
backend: BACKEND_FAKE
fake { step_s: %g }
reproducibility: REPRODUCIBILITY_TOLERANCE
max_queue_size: 4096
instance_group { count: 2 }
"""
SCALED = """
backend: BACKEND_FAKE
fake { step_s: 0.05 step_s_by_rows { key: 1 value: 0.05 } step_s_by_rows { key: 8 value: 0.4 } }
reproducibility: REPRODUCIBILITY_TOLERANCE
max_queue_size: 4096
"""
#: Requests at once before the step of the load, during it, and after it.
FEW, MANY = 2, 24
CHANGE_TIMEOUT_S = 400.0


async def cancels(folder: Path, stack: ExitStack) -> None:
    """200 requests leave at once; what replicas still do, in steps."""
    write_model(folder, CANCELLED % CANCEL_STEP_S)
    nodes = stack.enter_context(cluster([1, 1]))
    process, address, http = stack.enter_context(server(str(folder), address=nodes.address))
    async with AsyncClient(address, max_attempts=1) as client:
        await ready(client, process, "2 running")
        begun = asyncio.Semaphore(0)
        running = [
            asyncio.create_task(_endless(client, seed, begun)) for seed in range(CANCEL_COUNT)
        ]
        # As many as steps hold have begun; the others wait in their queues.
        for _ in range(16):
            await begun.acquire()
        await asyncio.sleep(10 * CANCEL_STEP_S)
        before = await asyncio.to_thread(metric, http, "darkroom_steps_total")
        began_s = time.monotonic()
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        cancelled_s = time.monotonic() - began_s
        await asyncio.sleep(10 * CANCEL_STEP_S)
        # What replicas count is told with the next jobs.
        probes = [
            client.generate("x", seed=seed, steps=1, width=64, height=64, guidance_scale=1.0)
            for seed in range(8)
        ]
        probed_s = time.monotonic()
        await asyncio.gather(*probes)
        probed_s = time.monotonic() - probed_s
        after = await asyncio.to_thread(metric, http, "darkroom_steps_total")
        freed = await asyncio.to_thread(buckets, http, "darkroom_cancel_seconds")
    told(
        "cancels",
        count=CANCEL_COUNT,
        step_s=CANCEL_STEP_S,
        all_cancelled_s=round(cancelled_s, 2),
        steps_after_of_two_replicas_with_the_probes=after - before,
        eight_probes_of_one_step_s=round(probed_s, 2),
        freed_within=freed,
    )


async def _endless(client: AsyncClient, seed: int, begun: asyncio.Semaphore) -> None:
    events = client.generate_events(
        "x", seed=seed, steps=500, width=64, height=64, guidance_scale=1.0
    )
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Progress):
                begun.release()


async def scaling(folder: Path, stack: ExitStack) -> None:
    """One replica, three under a step of the load with a new version meanwhile, one again."""
    write_model(folder, SCALED)
    nodes = stack.enter_context(cluster([4]))
    settings = {
        "min_replicas": "1",
        "max_replicas": "3",
        "replica_wait_s": "5",
        "replica_shrink_delay_s": "10",
        "model_control": "poll",
    }
    process, address, _ = stack.enter_context(
        server(str(folder), address=nodes.address, settings=settings)
    )
    seen, began_s = Seen(), time.monotonic()
    async with AsyncClient(address, max_attempts=1) as client:
        await ready(client, process, "1 running")
        load = Load(client, seen, FEW)
        changes: list[tuple[float, str]] = []

        async def come(what: str, done: Callable[[str, int], bool]) -> None:
            with suppress(TimeoutError):
                await _until(client, done, changes, began_s)
                return
            changes.append((round(time.monotonic() - began_s, 1), f"{what} did not come"))

        load.begin()
        load.at_once = MANY
        await come("three replicas", lambda message, _: "3 running" in message)
        (folder / "fake" / "2").mkdir()
        await come("version 2", lambda message, version: version == 2 and "running" in message)
        await come("three of it", lambda message, version: version == 2 and "3 running" in message)
        load.at_once = FEW
        await come(
            "one again",
            lambda message, version: version == 2 and message.startswith("replicas: 1 running"),
        )
        await load.end()
    told("scaling", **seen.figures(), changes=changes)


class Load:
    """Requests of 20 steps, so many at once as it is told."""

    def __init__(self, client: AsyncClient, seen: Seen, at_once: int) -> None:
        self._client, self._seen, self.at_once = client, seen, at_once
        self._running: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """From now on."""
        self._task = asyncio.create_task(self._go_on())

    async def end(self) -> None:
        """What runs is waited for."""
        self._task.cancel()
        await asyncio.gather(*self._running)

    async def _go_on(self) -> None:
        number = 0
        while True:
            self._running = {one for one in self._running if not one.done()}
            while len(self._running) < self.at_once:
                number += 1
                call = self._seen.call(self._client, number, 20)
                self._running.add(asyncio.create_task(call))
            await asyncio.sleep(0.05)


async def _until(
    client: AsyncClient,
    done: Callable[[str, int], bool],
    changes: list[tuple[float, str]],
    began_s: float,
) -> None:
    async with asyncio.timeout(CHANGE_TIMEOUT_S):
        while True:
            version, message = await newest(client)
            replicas = message.split(";")[0]
            line = f"version {version}: {replicas}"
            if not changes or changes[-1][1] != line:
                changes.append((round(time.monotonic() - began_s, 1), line))
            if done(replicas, version):
                return
            await asyncio.sleep(0.5)


async def newest(client: AsyncClient) -> tuple[int, str]:
    """The newest version that is listed, and its message."""
    (model,) = await client.list_models()
    version = max(model.versions, key=lambda one: one.version)
    return version.version, version.state_message


def metric(http: str, name: str) -> float:
    """The sum of a metric's samples."""
    return sum(value for _, value in _samples(http, name))


def buckets(http: str, name: str) -> dict[str, float]:
    """A histogram's counts up to each bound."""
    found = _samples(http, f"{name}_bucket")
    bounds = ((re.search(r'le="([^"]+)"', labels), value) for labels, value in found)
    return {bound.group(1): value for bound, value in bounds if bound is not None}


def _samples(http: str, name: str) -> list[tuple[str, float]]:
    with urllib.request.urlopen(f"http://{http}/metrics") as answer:
        text = answer.read().decode()
    lines = [one for one in text.splitlines() if re.match(name + r"[{ ]", one)]
    return [(one.rsplit(" ", 1)[0], float(one.rsplit(" ", 1)[1])) for one in lines]


TRIALS: dict[str, Callable[[Path, ExitStack], Coroutine[None, None, None]]] = {
    "cancels": cancels,
    "scaling": scaling,
}


def main() -> None:
    """Runs them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trials", nargs="*", default=list(TRIALS))
    for name in parser.parse_args().trials:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            asyncio.run(TRIALS[name](folder, stack))


if __name__ == "__main__":
    main()
