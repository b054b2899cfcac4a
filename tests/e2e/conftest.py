"""A server that everything hostile or clumsy is sent to, one for each module of such tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import pytest

from bench.serving import Server, connected, serving
from darkroom.v1.image_service_pb2_grpc import ImageServiceStub
from darkroom.v1.model_service_pb2_grpc import ModelServiceStub
from darkroom_client import Client
from darkroom_client.health import Health

MAX_RECEIVE_BYTES = 4 * 1024 * 1024

MODELS = {
    # Takes everything; its limits are the widest there are.
    "anything": 'backend: BACKEND_FAKE version_labels { key: "stable" value: 1 }',
    # Takes little, to be asked for more.
    "narrow": """
        backend: BACKEND_FAKE
        tasks: TASK_TEXT_TO_IMAGE
        parameters: "width_px" parameters: "height_px" parameters: "step_count"
        parameters: "image_count" parameters: "seed"
        limits { max_size_px: 128 max_step_count: 20 max_image_count: 2 }
    """,
}


@dataclass(frozen=True, slots=True)
class Service:
    """A running server and the ways to call it."""

    server: Server
    channel: grpc.Channel
    client: Client
    images: ImageServiceStub
    models: ModelServiceStub


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """After all tests of a module it still serves, and with the worker it began with."""
    repository = tmp_path_factory.mktemp("models")
    for name, config in MODELS.items():
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(config)
    flags = ("--max-receive-bytes", str(MAX_RECEIVE_BYTES))
    with (
        serving(repository, *flags) as server,
        connected(server) as client,
        grpc.insecure_channel(server.address) as channel,
    ):
        for name in MODELS:
            server.until("worker ready", model=f"{name}/1")
            server.until("model", model=f"{name}/1", state="ready")
        workers = _worker_pids(server)
        yield Service(server, channel, client, ImageServiceStub(channel), ModelServiceStub(channel))
        assert [image.seed for image in client.generate("anything", seed=3).images] == [3]
        assert client.health() is Health.SERVING
        assert _worker_pids(server) == workers
        for pid in workers:
            os.kill(pid, 0)
        assert not {"unhandled error", "worker died"} & {one.get("event") for one in server.log}
        assert "Traceback" not in str(server.log)


def _worker_pids(server: Server) -> list[int]:
    return [entry["pid"] for entry in server.log if entry.get("event") == "worker ready"]
