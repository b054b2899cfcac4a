"""What is lost when parts of a Ray cluster are, with requests at work: `make ray-faults`.

Nodes of Ray on this machine, and 300 requests to each fault; what callers saw is
compared with a run without it. Figures are printed as lines of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.ray_nodes import START_TIMEOUT_S, Nodes, cluster, ray_command, server, told, write_model
from darkroom_client import AsyncClient, DarkroomError

REQUEST_COUNT, AT_ONCE, SEED_COUNT = 300, 16, 8
STEP_COUNT = 30
CONFIG = """
backend: BACKEND_FAKE
fake { step_s: 0.02 }
reproducibility: REPRODUCIBILITY_TOLERANCE
max_queue_size: 4096
instance_group { count: %d }
"""


@dataclass(slots=True)
class Seen:
    """What callers saw: images by seed, errors by code, seconds of each call."""

    images: dict[int, set[bytes]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    times_s: list[float] = field(default_factory=list)
    done_count: int = 0

    async def call(self, client: AsyncClient, seed: int, steps: int = STEP_COUNT) -> None:
        """One request."""
        began_s = time.monotonic()
        try:
            made = await client.generate(
                "x", seed=seed, steps=steps, width=64, height=64, guidance_scale=1.0, timeout=600
            )
        except DarkroomError as error:
            self.errors[f"{type(error).__name__}: {error}"[:120]] += 1
        else:
            self.images.setdefault(seed, set()).add(made.images[0].content)
            self.times_s.append(time.monotonic() - began_s)
        self.done_count += 1

    def figures(self) -> dict[str, object]:
        """In a line."""
        times = sorted(self.times_s) or [0.0]
        return {
            "done": len(self.times_s),
            "failed": sum(self.errors.values()),
            "errors": dict(self.errors),
            "median_s": round(times[len(times) // 2], 2),
            "slowest_s": round(times[-1], 2),
        }


Fault = Callable[[Nodes, Seen, str], Awaitable[None]]


async def flood(
    client: AsyncClient, seen: Seen, *, steps: int = STEP_COUNT, count: int = REQUEST_COUNT
) -> None:
    """So many requests, so many at once."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with free:
            await seen.call(client, number % SEED_COUNT, steps)

    await asyncio.gather(*(one(number) for number in range(count)))


async def ready(client: AsyncClient, process: subprocess.Popen[bytes], wanted: str = "") -> None:
    """Returns when the model serves, with what its message is to have."""
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with {process.returncode}")
            state, message = await state_of(client)
            if state == "READY" and wanted in message:
                return
            await asyncio.sleep(0.5)


async def state_of(client: AsyncClient) -> tuple[str, str]:
    """How the model is, and its newest version's message."""
    try:
        (model,) = await client.list_models()
    except (DarkroomError, ValueError):
        return "", ""
    message = max(model.versions, key=lambda one: one.version, default=None)
    return model.state.name, "" if message is None else message.state_message


async def until(seen: Seen, count: int) -> None:
    """Returns when so many requests have ended."""
    async with asyncio.timeout(START_TIMEOUT_S):
        while seen.done_count < count:
            await asyncio.sleep(0.05)


async def kill_replicas(nodes: Nodes, seen: Seen, address: str) -> None:
    """kill -9 of a replica's process, twice."""
    del address
    for count in (60, 160):
        await until(seen, count)
        victims = [pid for node in nodes.nodes for pid in node.replica_pids()]
        os.kill(victims[0], signal.SIGKILL)


async def kill_node(nodes: Nodes, seen: Seen, address: str) -> None:
    """kill -9 of all that a node has."""
    del address
    await until(seen, 80)
    await asyncio.to_thread(nodes.nodes[0].kill)


async def drain_node(nodes: Nodes, seen: Seen, address: str) -> None:
    """A node is told to drain, as Kubernetes has it before a machine goes, and then goes."""
    del address
    await until(seen, 80)
    await _ray(
        *("drain-node", "--address", nodes.address, "--node-id", nodes.nodes[0].node_id),
        *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "bench"),
        *("--deadline-remaining-seconds", "120"),
    )


async def kill_head(nodes: Nodes, seen: Seen, address: str) -> None:
    """kill -9 of the head: its control store, Serve's controller, and the server's own raylet."""
    del address
    await until(seen, 80)
    await asyncio.to_thread(nodes.head.kill)


async def stop_ray(nodes: Nodes, seen: Seen, address: str) -> None:
    """`ray stop`, which ends every Ray process of the machine: only where all are ours."""
    del address
    await until(seen, 80)
    ours = {pid for node in (nodes.head, *nodes.nodes) for pid in node.pids()}
    others = [
        one.pid
        for one in psutil.process_iter(["name"])
        if one.info["name"] in ("raylet", "gcs_server") and one.pid not in ours
    ]
    if others:
        raise RuntimeError(f"other Ray processes run here, which `ray stop` would end: {others}")
    await _ray("stop", "--grace-period", "30")


async def nothing(nodes: Nodes, seen: Seen, address: str) -> None:
    """The run that the others are compared with."""
    del nodes, seen, address


FAULTS: dict[str, Fault] = {
    "calm": nothing,
    "replica": kill_replicas,
    "drain": drain_node,
    "node": kill_node,
    "head": kill_head,
    "stop": stop_ray,
}
#: After these a node is replaced.
ENDED = ("drain", "node")
#: After these nothing is left to be compared with.
LAST = ("head", "stop")


async def _ray(*arguments: str) -> None:
    made = await asyncio.create_subprocess_exec(
        ray_command(), *arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, said = await made.communicate()
    if made.returncode:
        raise RuntimeError(f"ray {arguments[0]}: {said.decode()[-500:]}")


async def trial(name: str, nodes: Nodes, address: str, calm: Seen) -> Seen:
    """A flood with a fault in it, and how it compares."""
    seen = Seen()
    async with AsyncClient(address, max_attempts=1) as client:
        flooding = asyncio.create_task(flood(client, seen))
        try:
            await FAULTS[name](nodes, seen, address)
        finally:
            await asyncio.wait([flooding], timeout=900)
    differing = [seed for seed, made in seen.images.items() if made != calm.images.get(seed, made)]
    told(name, **seen.figures(), bytes_differ=len(differing))
    return seen


async def faults(names: Sequence[str]) -> None:
    """Those asked for, one after the other, on one cluster for as long as it is whole."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_model(folder / "models", CONFIG % 3)
        nodes = stack.enter_context(cluster([2, 2]))
        process, address, _ = stack.enter_context(
            server(str(folder / "models"), address=nodes.address, log=nodes.folder / "server.log")
        )
        calm = Seen()
        for name in ("calm", *names):
            async with AsyncClient(address, max_attempts=1) as client:
                await ready(client, process, "3 running")
            calm = await trial(name, nodes, address, calm) if name == "calm" else calm
            if name != "calm":
                await trial(name, nodes, address, calm)
            if name in ENDED:
                # Of a drained node what is left of it goes too.
                nodes.nodes.pop(0).kill()
                nodes.add(2)


def main() -> None:
    """Runs them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*", default=[one for one in FAULTS if one != "calm"])
    given = parser.parse_args()
    kept = [one for one in given.faults if one not in LAST]
    for names in ([kept] if kept else []) + [[one] for one in given.faults if one in LAST]:
        asyncio.run(faults(names))


if __name__ == "__main__":
    main()
