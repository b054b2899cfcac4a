"""A node of a Ray cluster whose disk is full: `make ray-full-disk`. Needs root, on Linux.

The repository is a URL, so each node fetches the model. One node has a file system of 1 MiB for
that, in a mount namespace of its own; the model's file has 4 MiB. Figures are lines of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from bench.ray_faults import CONFIG, Seen, flood, ready, state_of
from bench.ray_nodes import START_TIMEOUT_S, cluster, server, told, write_model
from darkroom_client import AsyncClient, DarkroomError
from darkroom_server.scale_out.node_copy import FOLDER_NAME

WEIGHT_BYTES = 4 << 20
REQUEST_COUNT = 30
#: Runs what follows it with a file system of 1 MiB over the folder that is its first argument.
SMALL = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'


def small_disk(folder: Path) -> Sequence[str]:
    """What makes a node have a full disk where it keeps models."""
    return ("unshare", "--mount", "sh", "-c", SMALL, str(folder))


async def one_of_two(address: str, process: subprocess.Popen[bytes]) -> None:
    """A node has room and one has none: where the replicas are, and what callers get."""
    began_s, seen = time.monotonic(), Seen()
    async with AsyncClient(address, max_attempts=1) as client:
        await ready(client, process)
        ready_s = time.monotonic() - began_s
        await flood(client, seen, steps=4, count=REQUEST_COUNT)
        state, message = await state_of(client)
    told(
        "one full disk of two",
        ready_s=round(ready_s, 1),
        state=state,
        message=message,
        **seen.figures(),
    )


async def all_full(address: str, process: subprocess.Popen[bytes]) -> None:
    """No node has room: what the operator sees, and what a caller is told."""
    async with AsyncClient(address, max_attempts=1) as client, asyncio.timeout(START_TIMEOUT_S):
        while (told_state := await state_of(client))[0] != "FAILED":
            assert process.poll() is None
            await asyncio.sleep(0.5)
        try:
            await client.generate("x", width=64, height=64, steps=2)
        except DarkroomError as error:
            answer = f"{type(error).__name__}: {error}"
        else:
            answer = "an image"
    told("all disks full", state=told_state[0], message=told_state[1], caller=answer)


TRIALS = {"one": (one_of_two, True), "all": (all_full, False)}


def main() -> None:
    """Runs them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trials", nargs="*", default=list(TRIALS))
    for name in parser.parse_args().trials:
        trial, has_room = TRIALS[name]
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            write_model(folder / "models", CONFIG % 2)
            weights = {"weights": np.zeros(WEIGHT_BYTES, np.uint8)}
            save_file(weights, folder / "models" / "fake" / "1" / "weights.safetensors")
            copies = folder / "cache" / FOLDER_NAME
            copies.mkdir(parents=True)
            nodes = stack.enter_context(cluster([1] if has_room else []))
            nodes.add(1, wrapper=small_disk(copies))
            process, address, _ = stack.enter_context(
                server(
                    f"file://{folder}/models",
                    address=nodes.address,
                    settings={"repository_cache": str(folder / "cache")},
                )
            )
            asyncio.run(trial(address, process))


if __name__ == "__main__":
    main()
