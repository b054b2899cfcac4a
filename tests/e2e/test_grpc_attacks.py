"""Callers that would fill or stall the gRPC port of a real server, and others that are served."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest

from bench.attacks import ends_of_rush, reason_of
from bench.raw_http2 import GOAWAY, PING, WATCH, RawConnection, frame, message
from bench.serving import DARKROOM, Server, serving
from darkroom.v1.image_service_pb2 import GenerateRequest
from darkroom.v1.image_service_pb2_grpc import ImageServiceStub
from darkroom_client import Client
from tests.unit.image_decoding.pictures import noise_png

MIB = 1 << 20
#: Of this size four messages that take long are let come, two on a connection.
MAX_RECEIVE_BYTES = 256 * MIB
UNDELIVERED_BYTES = 8 * MIB
RECEIVE_TIMEOUT_S = 2.0
FLAGS = (
    *("--max-receive-bytes", str(MAX_RECEIVE_BYTES), "--unread-timeout", "2"),
    *("--receive-timeout", str(RECEIVE_TIMEOUT_S), "--undelivered-bytes", str(UNDELIVERED_BYTES)),
)
#: More than clients may have had open when a few were refused without a status.
RUSH_COUNT = 2_000


@dataclass(frozen=True, slots=True)
class Attacked:
    """The server, and a key for it."""

    server: Server
    key: str

    def resident_bytes(self) -> int:
        """What its process takes."""
        pages = Path(f"/proc/{self.server.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def codes_after(self, mark: int, count: int) -> Counter[str]:
        """How so many calls with a key have failed, as the log from there on has it."""
        until_s = time.monotonic() + 300
        while time.monotonic() < until_s:
            lines = [one for one in self.server.log[mark:] if one.get("event") == "call"]
            codes = Counter(one["code"] for one in lines)
            del codes["OK"], codes["UNAUTHENTICATED"]
            if codes.total() >= count:
                break
            time.sleep(0.05)
        return codes

    def serves(self) -> bool:
        """Whether somebody else gets an image."""
        with Client(self.server.address, api_key=self.key) as client:
            return bool(client.generate("x", seed=1, steps=1, width=64, height=64).images)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    folder = tmp_path_factory.mktemp("attacked")
    (folder / "models" / "fake" / "1").mkdir(parents=True)
    (folder / "models" / "fake" / "config.pbtxt").write_text("backend: BACKEND_FAKE\n")
    keys_file = str(folder / "keys.toml")
    made = subprocess.run(
        [*DARKROOM, "keys", "create", "x", "--keys-file", keys_file],
        check=True,
        capture_output=True,
        text=True,
    )
    with serving(folder / "models", *FLAGS, "--keys-file", keys_file) as server:
        server.until("model", state="ready")
        yield Attacked(server, made.stdout.strip())


def test_without_a_key_no_message_is_read(attacked: Attacked) -> None:
    with closing(RawConnection(attacked.server.address)) as caller:
        streams = [caller.open() for _ in range(8)]
        content = message(bytes(4 * MIB), 60 * MIB)
        sent_bytes = sum(caller.send(stream, content, for_s=2) for stream in streams)
        caller.read_until_ended()
    # What HTTP/2 lets a caller send before it has heard anything.
    assert sent_bytes <= len(streams) * 65_536 + MIB
    # The other callers' statuses are the same: see test_keys.py.
    assert attacked.serves()


def test_messages_that_do_not_end_have_little_room_and_time(attacked: Attacked) -> None:
    mark = len(attacked.server.log)
    with closing(RawConnection(attacked.server.address)) as caller:
        for _ in range(6):
            stream = caller.open(key=attacked.key)
            caller.send(stream, message(bytes(1000), 60 * MIB))
        caller.read_until_ended(left=2)
        assert attacked.serves()
        caller.read_until_ended()
    codes = attacked.codes_after(mark, 6)
    assert codes == {"UNAVAILABLE": 4, "DEADLINE_EXCEEDED": 2}


def test_silent_calls_are_messages_that_do_not_end(attacked: Attacked) -> None:
    with closing(RawConnection(attacked.server.address)) as caller:
        for _ in range(6):
            caller.open(key=attacked.key)
        caller.read_until_ended(left=2)
        assert attacked.serves()
        caller.read_until_ended()


def test_a_call_without_a_message_gets_a_status(attacked: Attacked) -> None:
    mark = len(attacked.server.log)
    with closing(RawConnection(attacked.server.address)) as caller:
        caller.end(caller.open(key=attacked.key))
        caller.read_until_ended()
    assert attacked.server.until("call", after=mark, code="INVALID_ARGUMENT")


def test_pings_cost_nothing_and_cut_nobody_off(attacked: Attacked) -> None:
    before_bytes = attacked.resident_bytes()
    with closing(RawConnection(attacked.server.address)) as caller:
        watch = caller.open(WATCH)
        caller.send(watch, message(b""))
        caller.end(watch)
        pings = frame(PING, 0, 0, b"12345678") * 1000
        for _ in range(120):
            caller.socket.sendall(pings)
            caller.read(0.01)
        assert attacked.resident_bytes() - before_bytes < 100 * MIB
        while sum(one.kind == PING for one in caller.frames) < 120_000:
            assert caller.read(10.0)
        assert not caller.has_ended(watch)
        assert GOAWAY not in {one.kind for one in caller.frames}
    assert attacked.serves()


def test_who_does_not_read_is_given_up(attacked: Attacked) -> None:
    mark = len(attacked.server.log)
    request = GenerateRequest(prompt="x", width_px=1024, height_px=1024, image_count=8)
    request.image.content = noise_png(1024)
    with grpc.insecure_channel(attacked.server.address) as channel:
        metadata = (("authorization", f"Bearer {attacked.key}"),)
        call = ImageServiceStub(channel).Generate(request, metadata=metadata)
        ended = attacked.server.until("call", after=mark, code="RESOURCE_EXHAUSTED")
        assert ended["method"] == "/darkroom.v1.ImageService/Generate"
        assert attacked.serves()
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(caught.value) == "RESULTS_UNREAD"


def calls_counted(server: Server) -> float:
    """Calls of Generate that the metrics know."""
    port = server.until("listening")["http_port"]
    lines = httpx.get(f"http://127.0.0.1:{port}/metrics").text.splitlines()
    counted = [one for one in lines if one.startswith("darkroom_requests_total{")]
    return sum(float(one.split()[-1]) for one in counted if "/Generate" in one)


def test_many_at_once_all_get_a_status_of_ours_and_are_counted(attacked: Attacked) -> None:
    before = calls_counted(attacked.server)
    ends = asyncio.run(ends_of_rush(attacked.server.address, attacked.key, RUSH_COUNT))
    assert ends.total() == RUSH_COUNT
    # Which of ours depends on how fast the machine is: a call may also be too slow to be read.
    assert "" not in ends
    assert ends["OK"] > 0
    assert calls_counted(attacked.server) - before == RUSH_COUNT
