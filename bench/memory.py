"""G9's memory: the peak of a worker with eight images at once, over the stock pipeline's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.load import play_server
from bench.measured import Estimate, Measured
from bench.pipelines import Pipeline
from bench.setup import Bench
from bench.workloads import Arrival

IMAGE_COUNT, SIZE_PX = 8, 256


def measure_memory(bench: Bench, version: Path) -> Measured:
    """Peaks of resident memory of two fresh processes, the libraries of both in them."""
    ratios, peaks = [], []
    for _ in range(bench.plays.memory_round_count):
        with bench.server("TOLERANCE") as (server, _):
            trace = play_server(server.address, _batch(), [None] * IMAGE_COUNT)
            assert len(trace.finished_s) == IMAGE_COUNT
            mine = peak_bytes(server.worker_pid())
        command = [
            sys.executable,
            "-m",
            "bench.memory",
            str(version),
            str(bench.thread_count),
        ]
        bare = subprocess.run(command, capture_output=True, text=True, check=True)
        theirs = int(bare.stdout)
        ratios.append(mine / theirs)
        peaks.append([mine, theirs])
    return Measured(
        goal="G9",
        tier=bench.tier,
        metric=f"peak memory of {IMAGE_COUNT} images at once, ours / bare diffusers",
        target=bench.targets.memory,
        at_least=False,
        estimate=Estimate.of(ratios),
        details={"ours_bare_bytes": peaks},
    )


def peak_bytes(pid: int | str) -> int:
    """The most resident memory that a process has had."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    found = next(line for line in lines if line.startswith("VmHWM:"))
    return int(found.split()[1]) * 1024


def _batch() -> list[Arrival]:
    return [
        Arrival(
            index=index,
            at_s=0.0,
            step_count=20,
            guidance_scale=5.0,
            size_px=SIZE_PX,
            scheduler="EulerDiscreteScheduler",
            prompt=0,
        )
        for index in range(IMAGE_COUNT)
    ]


def main() -> None:
    """The stock pipeline alone, in this process: prints its peak."""
    version, thread_count = sys.argv[1:]
    Pipeline.of(Path(version), thread_count=int(thread_count)).run(_batch())
    print(peak_bytes("self"))


if __name__ == "__main__":
    main()
