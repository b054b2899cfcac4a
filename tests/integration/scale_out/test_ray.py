"""Models on a Ray cluster of this machine. Needs Ray: `make test-ray`."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import psutil
import pytest

from darkroom_client import AsyncClient, DarkroomError, Generation

pytest.importorskip("ray", reason="needs Ray: make test-ray")

START_TIMEOUT_S = 600.0
CONFIG = """
backend: BACKEND_FAKE
fake { step_s: 0.02 }
reproducibility: REPRODUCIBILITY_TOLERANCE
max_queue_size: 1024
instance_group { count: 2 }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str]]:
    """A server with a cluster of its own: its process id and address."""
    root = tmp_path_factory.mktemp("repository")
    (root / "fake" / "1").mkdir(parents=True)
    (root / "fake" / "config.pbtxt").write_text(CONFIG)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *(sys.executable, "-m", "darkroom_server.cli.main", "serve", "--on", "ray"),
        *("--model-repository", str(root), "--grpc-port", str(port), "--http-port", "0"),
    ]
    process = subprocess.Popen(command)
    try:
        yield process.pid, f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_TIMEOUT_S)


@pytest.fixture
async def client(server: tuple[int, str]) -> AsyncGenerator[AsyncClient]:
    process = psutil.Process(server[0])
    async with AsyncClient(server[1], max_attempts=1) as client:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not await _is_ready(client):
                assert process.status() != psutil.STATUS_ZOMBIE, "the server ended"
                await asyncio.sleep(1)
        yield client


async def _is_ready(client: AsyncClient) -> bool:
    try:
        (model,) = await client.list_models()
    except (DarkroomError, ValueError):
        return False
    return model.state.name == "READY"


async def generate(client: AsyncClient, seed: int, steps: int = 8) -> Generation:
    return await client.generate(
        "x", seed=seed, steps=steps, width=64, height=64, guidance_scale=1.0, timeout=600
    )


def replica_pids(server_pid: int) -> list[int]:
    """Ray's processes that hold a model, of this server's cluster alone."""
    below = psutil.Process(server_pid).children(recursive=True)
    return [one.pid for one in below if "ServeReplica" in " ".join(one.cmdline())]


@pytest.mark.timeout(1200)
async def test_requests_are_served_and_replicas_are_reported(client: AsyncClient) -> None:
    once, again = await generate(client, 7), await generate(client, 7)
    assert once.images[0].content == again.images[0].content
    (model,) = await client.list_models()
    assert "2 running" in model.versions[0].state_message


@pytest.mark.timeout(1800)
async def test_what_a_killed_replica_ran_runs_elsewhere_with_the_same_bytes(
    server: tuple[int, str], client: AsyncClient
) -> None:
    calm = [await generate(client, seed) for seed in range(4)]
    running = [asyncio.create_task(generate(client, seed % 4, steps=200)) for seed in range(24)]
    await asyncio.sleep(1)
    os.kill(replica_pids(server[0])[0], signal.SIGKILL)
    made = await asyncio.gather(*running)
    assert len({one.images[0].content for one in made}) == 4
    again = [await generate(client, seed) for seed in range(4)]
    assert [one.images[0].content for one in again] == [one.images[0].content for one in calm]


def test_the_deployment_files_are_read_by_serve() -> None:
    import yaml
    from ray.serve.schema import ServeDeploySchema

    folder = Path(__file__).parents[3] / "deploy" / "ray"
    service, *_ = yaml.safe_load_all((folder / "rayservice.yaml").read_text())
    for text in ((folder / "serve.yaml").read_text(), service["spec"]["serveConfigV2"]):
        ServeDeploySchema.model_validate(yaml.safe_load(text))
