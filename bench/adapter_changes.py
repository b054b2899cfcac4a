"""`python -m bench.adapter_changes`: many adapters, which come, change and go while requests run.

One embedded model with a hundred adapters, more than its limits of memory hold, and three kinds of
load in turn: no request has an adapter; half of them have, and nothing changes; half of them have
while adapters are added, replaced and removed. Reported are what became of the requests, how long
those without adapters took, and the worker's memory. The lines under the table say it in short:
how many failed, the memory after the first and the last round, and by how much p99 changed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import struct
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table
from safetensors.numpy import save_file

from bench.scoring import percentile
from bench.serving import Server, serving
from darkroom_client import AsyncClient, DarkroomError

ROOT = Path(__file__).parents[1]
MODEL, SIZE_PX, STEP_COUNT, RANK = "tiny-sdxl", 64, 2, 4
ADAPTER_COUNT, IN_FLIGHT_COUNT, PROMPT_COUNT = 100, 8, 40
#: Adapters that the worker may hold, of the hundred: by bytes of a file each.
HELD_COUNT = 30
CHANGE_EVERY_S, POLL_S = 0.5, 1.0
DONE = "done"


class Kind(Enum):
    """What a phase of the load is like."""

    WITHOUT = "no adapters"
    STEADY = "adapters, unchanged"
    CHANGING = "adapters come, change and go"


@dataclass(slots=True)
class Phase:
    """What was seen in the phases of one kind."""

    outcomes: Counter[str] = field(default_factory=Counter)
    #: Of requests without adapters.
    latencies_s: list[float] = field(default_factory=list)
    worker_bytes: list[int] = field(default_factory=list)
    changes: Counter[str] = field(default_factory=Counter)

    @property
    def failed_count(self) -> int:
        """Requests that got an error."""
        return self.outcomes.total() - self.outcomes[DONE]

    def latency_s(self, share: float) -> float:
        """What this share of the requests without adapters took at most."""
        return percentile(sorted(self.latencies_s), share)


class Adapters:
    """The adapters of a model's folder; requests name only those that stay while they run."""

    def __init__(self, model: Path, rng: random.Random) -> None:
        self._folder, self._rng = model / "adapters", rng
        self._layers = _attention(model / "2" / "unet")
        self._versions: dict[str, int] = {}
        self._used: Counter[str] = Counter()
        self._number = 0
        for _ in range(ADAPTER_COUNT):
            self.add()
        self.file_bytes = next(self._folder.rglob("*.safetensors")).stat().st_size
        self.served = set(self._versions)

    def add(self) -> str:
        """A new one."""
        self._number += 1
        name = f"adapter-{self._number}"
        self._write(name, 1)
        return name

    def replace(self) -> None:
        """A new version of one."""
        name = self._rng.choice(sorted(self._versions))
        self._write(name, self._versions[name] + 1)

    async def remove(self) -> None:
        """One goes, when nothing uses it any more."""
        name = self._rng.choice(sorted(self.served))
        self.served.discard(name)
        while self._used[name]:
            await asyncio.sleep(0.01)
        del self._versions[name]
        await asyncio.to_thread(shutil.rmtree, self._folder / name)

    @asynccontextmanager
    async def chosen(self) -> AsyncIterator[dict[str, float]]:
        """One or two of those that are served, with weights, which stay until it is left."""
        names = self._rng.sample(sorted(self.served), self._rng.choice((1, 1, 2)))
        self._used.update(names)
        try:
            yield {name: self._rng.uniform(-1, 1) for name in names}
        finally:
            self._used.subtract(names)

    def _write(self, name: str, version: int) -> None:
        random_state = np.random.default_rng(self._rng.randrange(2**32))
        tensors = {}
        for layer, (out_count, in_count) in self._layers.items():
            for half, shape in (("A", (RANK, in_count)), ("B", (out_count, RANK))):
                value = random_state.normal(0, 0.1, shape).astype(np.float32)
                tensors[f"unet.{layer}.lora_{half}.weight"] = value
        folder = self._folder / name / str(version)
        folder.mkdir(parents=True)
        # Under its name only when it is whole.
        save_file(tensors, folder / ".part")
        (folder / ".part").rename(folder / f"{name}.safetensors")
        self._versions[name] = version


def _attention(unet: Path) -> dict[str, tuple[int, int]]:
    """Shapes of the weights of the UNet's attention, by layer."""
    with next(unet.glob("*.safetensors")).open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(length))
    ends = (".to_q.weight", ".to_k.weight", ".to_v.weight")
    return {
        name.removesuffix(".weight"): (entry["shape"][0], entry["shape"][1])
        for name, entry in entries.items()
        if name.endswith(ends)
    }


async def _change(client: AsyncClient, adapters: Adapters, phase: Phase) -> None:
    """Adds, replaces and removes, until it is cancelled."""
    while True:
        added = await asyncio.to_thread(adapters.add)
        await asyncio.to_thread(adapters.replace)
        phase.changes.update(("added", "replaced"))
        await _until_listed(client, added)
        adapters.served.add(added)
        await adapters.remove()
        phase.changes["removed"] += 1
        await asyncio.sleep(CHANGE_EVERY_S)


async def _until_listed(client: AsyncClient, name: str) -> None:
    """Waits until the server's poll has found an adapter."""
    while name not in {one.name for one in (await client.get_model(MODEL)).adapters}:
        await asyncio.sleep(POLL_S / 4)


async def _play(
    client: AsyncClient, server: Server, adapters: Adapters, kind: Kind, count: int, phase: Phase
) -> None:
    """One phase: `count` requests, some at a time."""
    rng = random.Random(count)
    left = iter(range(count))
    process = psutil.Process(server.worker_pid())

    async def ask() -> None:
        for number in left:
            options = {"seed": number, "steps": STEP_COUNT, "guidance_scale": 1.0}
            prompt = f"a cat {number % PROMPT_COUNT}"
            size = {"width": SIZE_PX, "height": SIZE_PX, "model": MODEL}
            has_adapters = kind is not Kind.WITHOUT and rng.random() < 0.5
            began_s = time.monotonic()
            try:
                if has_adapters:
                    async with adapters.chosen() as chosen:
                        await client.generate(prompt, **options, **size, adapters=chosen)
                else:
                    await client.generate(prompt, **options, **size)
                phase.outcomes[DONE] += 1
            except DarkroomError as error:
                phase.outcomes[f"{type(error).__name__}: {error}"[:120]] += 1
            if not has_adapters:
                phase.latencies_s.append(time.monotonic() - began_s)

    changing = (
        asyncio.create_task(_change(client, adapters, phase)) if kind is Kind.CHANGING else None
    )
    await asyncio.gather(*(ask() for _ in range(IN_FLIGHT_COUNT)))
    if changing is not None:
        changing.cancel()
        with suppress(asyncio.CancelledError):
            await changing
    phase.worker_bytes.append(process.memory_info().rss)


async def _measure(
    server: Server, adapters: Adapters, rounds: int, count: int
) -> dict[Kind, Phase]:
    phases = {kind: Phase() for kind in Kind}
    async with AsyncClient(server.address, timeout=600) as client:
        # What is proved and read for the first time is not counted.
        for kind in (Kind.WITHOUT, Kind.STEADY):
            await _play(client, server, adapters, kind, count // 2, Phase())
        for _ in range(rounds):
            for kind, phase in phases.items():
                await _play(client, server, adapters, kind, count, phase)
    return phases


def main() -> None:
    """Measures, prints, and writes JSON where it is told to."""
    parser = argparse.ArgumentParser(prog="bench.adapter_changes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--requests", type=int, default=500, help="of each kind in a round")
    parser.add_argument("--out", type=Path, help="a file for the figures")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / MODEL
        shutil.copytree(
            ROOT / "model_repo" / MODEL, model, ignore=shutil.ignore_patterns("1", "adapters")
        )
        adapters = Adapters(model, random.Random(7))
        limit = adapters.file_bytes * HELD_COUNT
        with (model / "config.pbtxt").open("a") as config:
            config.write(
                f"\nadapter_memory {{ max_host_bytes: {2 * limit} max_device_bytes: {limit} }}\n"
            )
        flags = ("--model-control", "poll", "--repository-poll", str(POLL_S))
        with serving(Path(folder), *flags, "--repository-settle", "0") as server:
            server.until_ready(MODEL)
            server.until("worker ready")
            phases = asyncio.run(_measure(server, adapters, args.rounds, args.requests))
    _show(phases)
    if args.out:
        args.out.write_text(json.dumps({k.value: _figures(p) for k, p in phases.items()}, indent=1))


def _figures(phase: Phase) -> dict[str, object]:
    return {
        "outcomes": dict(phase.outcomes),
        "failed": phase.failed_count,
        "changes": dict(phase.changes),
        "p50_s": phase.latency_s(0.5),
        "p99_s": phase.latency_s(0.99),
        "worker_bytes": phase.worker_bytes,
    }


def _show(phases: dict[Kind, Phase]) -> None:
    table = Table("load", "outcomes", "changes", "p50 ms", "p99 ms", "worker MB after each round")
    for kind, phase in phases.items():
        table.add_row(
            kind.value,
            ", ".join(f"{count} {what}" for what, count in phase.outcomes.items()),
            ", ".join(f"{count} {what}" for what, count in phase.changes.items()) or "-",
            f"{phase.latency_s(0.5) * 1e3:.0f}",
            f"{phase.latency_s(0.99) * 1e3:.0f}",
            " ".join(f"{size / 1e6:.0f}" for size in phase.worker_bytes),
        )
    console = Console()
    console.print(table)
    for line in _summary(phases):
        console.print(line, soft_wrap=True)


def _summary(phases: dict[Kind, Phase]) -> list[str]:
    """What a reader looks for first, of all requests and of those under change."""
    changing, without = phases[Kind.CHANGING], phases[Kind.WITHOUT]
    failed = sum(phase.failed_count for phase in phases.values())
    sent = sum(phase.outcomes.total() for phase in phases.values())
    calm_s = without.latency_s(0.99)
    first, last = without.worker_bytes[0], changing.worker_bytes[-1]
    return [
        f"failed: {failed} of {sent}; under change {changing.failed_count} of"
        f" {changing.outcomes.total()}",
        f"worker memory: first {first / 1e6:.0f} MB, last {last / 1e6:.0f} MB",
        "p99 of requests without adapters, over that with no adapters in use:"
        f" {phases[Kind.STEADY].latency_s(0.99) / calm_s:.2f} unchanged,"
        f" {changing.latency_s(0.99) / calm_s:.2f} under change",
    ]


if __name__ == "__main__":
    main()
