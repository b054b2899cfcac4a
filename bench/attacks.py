"""Callers and files that mean a server no good: what each does, and what it has to say of it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import signal
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from bench.raw_http2 import PING, RawConnection, frame, message
from bench.serving import Server
from darkroom.v1.image_service_pb2 import FillRequest, GenerateRequest
from darkroom.v1.image_service_pb2_grpc import ImageServiceStub
from tests.unit.image_decoding.pictures import encoded, gradient, jpeg_of_scans, noise_png

# An attack lasts for a time: each pause below is a part of it, or lets its effect be seen.

MIB = 1 << 20
GIVE_UP_S = 120.0


@dataclass(frozen=True)
class Target:
    """A server under attack."""

    server: Server
    key: str

    @property
    def url(self) -> str:
        """Of its HTTP."""
        return f"http://127.0.0.1:{self.server.until('listening')['http_port']}"

    @property
    def http_port(self) -> int:
        """Of its HTTP."""
        return int(self.server.until("listening")["http_port"])


def decoding(target: Target) -> str:
    """Six progressive JPEGs of 3,000 scans, whose callers leave after two seconds; a good Fill."""
    picture = encoded(gradient(), "PNG")
    bad = FillRequest(prompt="x", image={"content": jpeg_of_scans(3000)})
    bad.mask.content = picture
    good = FillRequest(prompt="x", image={"content": picture}, step_count=1)
    good.mask.content = picture
    with grpc.insecure_channel(target.server.address) as channel:
        stub = ImageServiceStub(channel)
        calls = [stub.Fill(bad, timeout=2) for _ in range(6)]
        time.sleep(0.2)  # the good call comes after the bad ones
        begun_s = time.monotonic()
        with contextlib.suppress(grpc.RpcError):
            list(stub.Fill(good, timeout=GIVE_UP_S))
        waited_s = time.monotonic() - begun_s
        for call in calls:
            call.cancel()
    return f"a good fill took {waited_s:.2f} s"


def cancelled_work(target: Target) -> str:
    """60 calls of 500 steps and 16 images each, cancelled once they are in."""
    request = GenerateRequest(prompt="x", step_count=500, image_count=16)
    with grpc.insecure_channel(target.server.address) as channel:
        stub = ImageServiceStub(channel)
        calls = [stub.Generate(request) for _ in range(60)]
        time.sleep(3)  # all are in the queue by then
        for call in calls:
            call.cancel()
        time.sleep(5)  # what cancelled work still holds up is seen here
    return ""


def messages_without_a_key(target: Target) -> str:
    """Sixteen messages of 60 MiB from callers that have none."""
    return _streams(target, "", [60 * MIB] * 16, 60 * MIB)


def messages_without_an_end(target: Target) -> str:
    """Forty messages of 60 MiB with a key, of which 30 MiB come."""
    return _streams(target, target.key, [30 * MIB] * 40, 60 * MIB)


def _streams(target: Target, key: str, sizes_bytes: list[int], announced_bytes: int) -> str:
    sent_bytes = [0] * len(sizes_bytes)

    def one(index: int) -> None:
        with (
            contextlib.suppress(OSError),
            contextlib.closing(RawConnection(target.server.address)) as caller,
        ):
            stream = caller.open(key=key)
            content = message(bytes(sizes_bytes[index]), announced_bytes)
            sent_bytes[index] = caller.send(stream, content, for_s=10)
            time.sleep(5)  # what the server keeps of it is seen meanwhile

    threads = [threading.Thread(target=one, args=(index,)) for index in range(len(sizes_bytes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return f"{sum(sent_bytes) / MIB:.0f} MiB got through"


def silent_connections(target: Target) -> str:
    """1,100 HTTP connections without a word; then the worker dies."""
    with ExitStack() as stack:
        for _ in range(1_100):
            stack.enter_context(socket.create_connection(("127.0.0.1", target.http_port)))
        after = len(target.server.log)
        os.kill(target.server.worker_pid(), signal.SIGKILL)
        time.sleep(15)  # a new worker needs descriptors; it may try more than once
        states = [one for one in target.server.log[after:] if one.get("event") == "model"]
        return f"the model is {states[-1]['state'] if states else 'as it was'}"


def brackets(target: Target) -> str:
    """A body of 32 MiB of `[],`."""
    body = b'{"prompt":"x","a":[' + b"[]," * (32 * MIB // 3) + b"[]]}"
    return _posted(target, "/v1/images/generations", body, {})


def packed_zeros(target: Target) -> str:
    """A call over Connect of 0.1 MiB that unpacks to 95 MiB, five times."""
    body = gzip.compress(bytes(95 * MIB))
    path = "/darkroom.v1.ModelService/ListModels"
    headers = {"content-encoding": "gzip"}
    return ", ".join(_posted(target, path, body, headers) for _ in range(5))


def _posted(target: Target, path: str, body: bytes, headers: dict[str, str]) -> str:
    headers = {"content-type": "application/json"} | headers
    if target.key:
        headers["authorization"] = f"Bearer {target.key}"
    begun_s = time.monotonic()
    answer = httpx.post(target.url + path, content=body, headers=headers, timeout=GIVE_UP_S)
    return f"{answer.status_code} after {time.monotonic() - begun_s:.2f} s"


def weights_header(target: Target) -> str:
    """A safetensors file whose header is 48 MiB of `[],`, found by polling."""
    root = Path(target.server.process.args[3])  # type: ignore[index]  # as serving() starts it
    version = root / "bad" / "1"
    (version / "unet").mkdir(parents=True)
    header = b'{"a":[' + b"[]," * (48 * MIB // 3) + b"[]]}"
    content = struct.pack("<Q", len(header)) + header
    (version / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(content)
    (version / "unet" / "config.json").write_text("{}")
    (version / "model_index.json").write_text(
        json.dumps(
            {
                "_class_name": "StableDiffusionPipeline",
                "unet": ["diffusers", "UNet2DConditionModel"],
            }
        )
    )
    time.sleep(10)  # the repository is scanned meanwhile
    return ""


def unread_over_grpc(target: Target) -> str:
    """37 clients that ask for eight images of a mebipixel and read nothing, for 40 s."""
    request = GenerateRequest(
        prompt="x", width_px=1024, height_px=1024, image_count=8, step_count=2
    )
    request.image.content = noise_png(1024)
    connections = []
    for _ in range(37):
        caller = RawConnection(target.server.address)
        stream = caller.open(key=target.key)
        caller.send(stream, message(request.SerializeToString()), for_s=20)
        caller.end(stream)
        connections.append(caller)
    time.sleep(40)  # nobody reads meanwhile: that is the attack
    for caller in connections:
        caller.close()
    return ""


def pings(target: Target) -> str:
    """9 MiB of HTTP/2 PINGs whose answers are not read."""
    block = frame(PING, 0, 0, b"12345678") * 1000
    sent = 0
    with contextlib.closing(RawConnection(target.server.address)) as caller:
        caller.socket.settimeout(5)
        with contextlib.suppress(OSError):
            while sent < 9 * MIB:
                caller.socket.sendall(block)
                sent += len(block)
        time.sleep(2)  # answers that are not read pile up meanwhile
    return f"{sent / MIB:.1f} MiB got through"


def resets(target: Target) -> str:
    """20,000 calls that are opened and reset at once."""
    with contextlib.closing(RawConnection(target.server.address)) as caller:
        for _ in range(20_000):
            stream = caller.open(key=target.key)
            caller.socket.sendall(frame(3, 0, stream, struct.pack(">I", 8)))
            if stream % 100 == 1:
                caller.read(0.0)
        time.sleep(10)  # the server works them off while others call
    return ""


def rush(target: Target) -> str:
    """10,000 calls at once on one channel."""
    ends = asyncio.run(ends_of_rush(target.server.address, target.key, 10_000))
    return ", ".join(f"{count} {end or 'without a reason'}" for end, count in ends.items())


async def ends_of_rush(address: str, key: str, count: int) -> Counter[str]:
    """How so many calls at once have ended: the reasons given, OK or nothing."""

    async def one(stub: ImageServiceStub) -> str:
        request = GenerateRequest(prompt="x", width_px=64, height_px=64, step_count=1)
        metadata = (("authorization", f"Bearer {key}"),) if key else ()
        try:
            async for _ in stub.Generate(request, metadata=metadata):
                pass
        except grpc.aio.AioRpcError as error:
            return reason_of(error)
        return "OK"

    async with grpc.aio.insecure_channel(address) as channel:
        stub = ImageServiceStub(channel)
        return Counter(await asyncio.gather(*(one(stub) for _ in range(count))))


def reason_of(error: grpc.RpcError) -> str:
    """The reason in the details; empty where the service has given none."""
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason
    return ""


ATTACKS: dict[str, Callable[[Target], str]] = {
    one.__name__: one
    for one in (
        decoding,
        cancelled_work,
        messages_without_a_key,
        messages_without_an_end,
        silent_connections,
        brackets,
        packed_zeros,
        weights_header,
        unread_over_grpc,
        pings,
        resets,
        rush,
    )
}
