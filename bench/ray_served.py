"""What Ray costs a call, and what replicas gain, on Ray nodes of this machine: `make ray-served`.

The fake backend takes the virtual device's time for its steps, so that two processors can show four
replicas. Figures are printed as lines of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from bench.load import play_server
from bench.ray_faults import ready
from bench.ray_nodes import cluster, server, told, write_model
from bench.scoring import OBJECTIVES, Run, percentile
from bench.virtual import UNSATURATED, Device
from bench.workloads import W_MIX, W_SIZE, Arrival, Workload, at_rate
from darkroom_client import AsyncClient

#: Steps take so many times the table's time, so that a busy machine does not decide: the shortest
#: deadlines of the workloads are five times 90 ms on the table.
SLOWED = 2.0
#: Of the rate that replicas make one by one.
LOADS = {W_MIX.name: 2.2, W_SIZE.name: 2.8}
#: What is compared, and the program that serves by it.
ROUTINGS = {"ours": "darkroom_server.cli.main", "Ray's own": "bench.ray_own_routing"}
REQUESTS_EACH = 100
PAIR_COUNT = 60
CONFIG = """
backend: BACKEND_FAKE
fake {{ {curve} image_s: {image_s} pixel_count: {pixel_count} }}
reproducibility: REPRODUCIBILITY_TOLERANCE
max_queue_size: 4096
instance_group {{ count: {count} }}
"""


def slowed(device: Device) -> Device:
    """The device, with more time for everything."""
    return Device(
        name=device.name,
        row_s=SLOWED * device.row_s,
        decode_unit_s=SLOWED * device.decode_unit_s,
        gains=device.gains,
        size_px=device.size_px,
    )


DEVICE = slowed(UNSATURATED)


def config(count: int) -> str:
    """A model with the device's costs and so many replicas."""
    costs = {rows: DEVICE.step_s(DEVICE.size_px, rows) for rows, _ in DEVICE.gains}
    curve = " ".join(
        f"step_s_by_rows {{ key: {rows} value: {cost_s:.6f} }}" for rows, cost_s in costs.items()
    )
    return CONFIG.format(
        curve=curve,
        image_s=DEVICE.decode_s(DEVICE.size_px),
        pixel_count=DEVICE.size_px**2,
        count=count,
    )


def drawn(workload: Workload, count: int, load: float, replica_count: int) -> list[Arrival]:
    """Requests at so many times the rate that replicas make one by one."""
    arrivals = [
        dataclasses.replace(one, scheduler="FakeScheduler")
        for one in workload.arrivals(7, count, size_px=DEVICE.size_px)
    ]
    one_s = statistics.fmean(DEVICE.alone_s(one.kind) for one in arrivals)
    return at_rate(arrivals, load * replica_count / one_s)


def played(address: str, arrivals: list[Arrival]) -> Run:
    """One run on a server; all deadlines are told."""
    objective = OBJECTIVES[0]
    deadlines_s = [one.at_s + objective.allowed_s(one.kind, DEVICE) for one in arrivals]
    return Run(arrivals, deadlines_s, play_server(address, arrivals, deadlines_s))


async def wait_for(address: str, process: subprocess.Popen[bytes], wanted: str) -> None:
    """Returns when the model serves with what its message is to have."""
    async with AsyncClient(address, max_attempts=1) as client:
        await ready(client, process, wanted)


def overhead(folder: Path, given: argparse.Namespace) -> None:
    """The same requests to a server with a worker of its own and to one with a replica on Ray."""
    write_model(folder, config(1))
    with ExitStack() as stack:
        nodes = stack.enter_context(cluster([1]))
        on_ray, ray_address, _ = stack.enter_context(server(str(folder), address=nodes.address))
        alone, address, _ = stack.enter_context(server(str(folder), address=None))
        asyncio.run(wait_for(ray_address, on_ray, "1 running"))
        asyncio.run(wait_for(address, alone, ""))
        _compared(address, ray_address, given.requests)


def _compared(address: str, ray_address: str, request_count: int) -> None:
    pairs = asyncio.run(_pairs(address, ray_address))
    told(
        "idle",
        pairs=len(pairs),
        machine_median_s=round(statistics.median(one for one, _ in pairs), 4),
        ray_more_median_ms=round(1e3 * statistics.median(b - a for a, b in pairs), 2),
        ray_over_machine=round(statistics.median(b / a for a, b in pairs), 4),
    )
    arrivals = drawn(W_MIX, request_count, 0.7, 1)
    for where, used in 2 * [("machine", address), ("ray", ray_address)]:
        run = played(used, arrivals)
        latencies_s = run.latencies_s()
        told(
            "load 0.7",
            where=where,
            median_s=round(percentile(latencies_s, 0.5), 3),
            p99_s=round(percentile(latencies_s, 0.99), 3),
            met=round(run.attainment(), 3),
        )


async def _pairs(address: str, ray_address: str) -> list[tuple[float, float]]:
    async with AsyncClient(address) as one, AsyncClient(ray_address) as other:
        made = []
        for number in range(PAIR_COUNT):
            seconds = {}
            for client in (one, other) if number % 2 else (other, one):
                began_s = time.perf_counter()
                await client.generate(
                    "x", seed=1, steps=4, width=512, height=512, guidance_scale=1.0
                )
                seconds[client] = time.perf_counter() - began_s
            made.append((seconds[one], seconds[other]))
        return made[5:]


def goodput(folder: Path, given: argparse.Namespace) -> None:
    """W-mix and W-size on one, two and four replicas, by this routing and by Ray's own."""
    for workload, count in itertools.product((W_MIX, W_SIZE), given.replicas):
        if workload.name not in given.workloads:
            continue
        for name in given.routings[: min(count, 2)]:
            module = ROUTINGS[name]
            with ExitStack() as held:
                models = folder / f"{workload.name}-{count}-{module}"
                write_model(models, config(count))
                nodes = held.enter_context(cluster([count]))
                process, address, http_address = held.enter_context(
                    server(str(models), address=nodes.address, module=module)
                )
                asyncio.run(wait_for(address, process, f"{count} running"))
                arrivals = drawn(workload, given.requests * count, LOADS[workload.name], count)
                run = played(address, arrivals)
                rows = rows_a_step(http_address)
            told(
                workload.name,
                routing=name,
                replicas=count,
                requests=len(arrivals),
                goodput_per_s=round(run.goodput_per_s(), 3),
                met=round(run.attainment(), 3),
                met_by_size={
                    size_px: round(_met(run, size_px), 3)
                    for size_px in sorted({one.size_px for one in arrivals})
                },
                p99_of_done_s=round(_p99_s(run), 2),
                rows_a_step=round(rows, 2),
            )


def rows_a_step(http_address: str) -> float:
    """Of all replicas, by the server's metrics."""
    sums = dict.fromkeys(("sum", "count"), 0.0)
    for line in httpx.get(f"http://{http_address}/metrics", timeout=60).text.splitlines():
        name, _, value = line.rpartition(" ")
        for kind in sums:
            if name.startswith(f"darkroom_step_rows_{kind}"):
                sums[kind] += float(value)
    return sums["sum"] / max(1.0, sums["count"])


def _met(run: Run, size_px: int) -> float:
    kept = [one for one in run.scored() if one.size_px == size_px]
    return sum(map(run.met, kept)) / max(1, len(kept))


def _p99_s(run: Run) -> float:
    done = [one for one in run.latencies_s() if one != float("inf")]
    return percentile(done, 0.99)


TRIALS = {"overhead": overhead, "goodput": goodput}


def main() -> None:
    """Runs them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trials", nargs="*", default=list(TRIALS))
    parser.add_argument("--workloads", nargs="*", default=list(LOADS))
    parser.add_argument("--replicas", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--routings", nargs="*", default=list(ROUTINGS))
    parser.add_argument("--requests", type=int, default=REQUESTS_EACH, help="for each replica")
    given = parser.parse_args()
    for name in given.trials:
        with tempfile.TemporaryDirectory() as folder:
            TRIALS[name](Path(folder), given)


if __name__ == "__main__":
    main()
