"""Readers that do not read: what they leave is bounded, and the memory comes back when they go.

The short form is for every day; the long one has as many and as much as did harm once.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from bench.serving import Server, serving
from darkroom.v1.image_service_pb2 import GenerateRequest
from darkroom.v1.image_service_pb2_grpc import ImageServiceStub
from darkroom_client import Client
from tests.e2e.test_grpc_attacks import noise_png

MIB = 1 << 20
EDGE_PX, IMAGE_BYTES = 1024, 3 * MIB
#: Of each reader: its request, as message, decoded and on its way to the worker, the image that is
#: being sent, and what gRPC holds of both. Less than the images that nobody reads.
READER_BYTES = 8 * IMAGE_BYTES
#: The process's own growth: threads' stacks, caches, what glibc keeps.
SLACK_BYTES = 64 * MIB
#: The memory goes back within two looks of 10 s; a busy machine may need longer.
PATIENCE_S = 300.0


def resident_bytes(server: Server) -> int:
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("reader_count", "image_count", "undelivered_bytes"),
    [
        pytest.param(12, 16, 16 * MIB, id="short"),
        pytest.param(37, 16, 512 * MIB, id="long", marks=pytest.mark.slow),
    ],
)
def test_what_nobody_reads_is_bounded_and_comes_back(
    tmp_path: Path, reader_count: int, image_count: int, undelivered_bytes: int
) -> None:
    (tmp_path / "fake" / "1").mkdir(parents=True)
    (tmp_path / "fake" / "config.pbtxt").write_text("backend: BACKEND_FAKE\n")
    request = GenerateRequest(prompt="x", width_px=EDGE_PX, height_px=EDGE_PX, step_count=2)
    request.image.content = noise_png(EDGE_PX)
    request.image_count = image_count
    flags = ("--undelivered-bytes", str(undelivered_bytes), "--unread-timeout", "3")
    with serving(tmp_path, *flags) as server:
        server.until("model", state="ready")
        with Client(server.address) as client:
            assert client.generate("x", seed=1).images
            start_bytes = most_bytes = resident_bytes(server)
            with ExitStack() as channels:
                opened = [
                    channels.enter_context(grpc.insecure_channel(server.address))
                    for _ in range(reader_count)
                ]
                # Kept: a call that nobody knows any more is cancelled.
                calls = [ImageServiceStub(channel).Generate(request) for channel in opened]
                until_s = time.monotonic() + PATIENCE_S
                while time.monotonic() < until_s and ended(server) < reader_count:
                    most_bytes = max(most_bytes, resident_bytes(server))
                    time.sleep(0.05)
                assert client.generate("x", seed=1).images
                assert ended(server) == len(calls)
            allowed_bytes = undelivered_bytes + reader_count * READER_BYTES + SLACK_BYTES
            assert most_bytes - start_bytes < allowed_bytes
            until_s = time.monotonic() + PATIENCE_S
            while (left_bytes := resident_bytes(server)) > start_bytes + SLACK_BYTES:
                assert time.monotonic() < until_s, (start_bytes, most_bytes, left_bytes)
                time.sleep(0.5)


def ended(server: Server) -> int:
    """Calls that were given up for not being read."""
    return sum(one.get("code") == "RESOURCE_EXHAUSTED" for one in server.log)
