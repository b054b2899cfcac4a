"""A caller that stops reading: its calls end, and its connection gets no more until it reads."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc import aio

from darkroom.v1.image_service_pb2 import GenerateRequest
from darkroom.v1.image_service_pb2_grpc import ImageServiceStub
from darkroom_server.access.gate import Gate
from darkroom_server.domain.errors import ResultsUnread
from darkroom_server.requests.image_requests import ImageRequest
from darkroom_server.rpc.sending import MAX_UNREAD_CALLS
from darkroom_server.rpc.server import GrpcOptions, GrpcServer, build_server
from darkroom_server.telemetry.metrics import Metrics
from tests.integration.rpc.fake_engine import COMPLETED, FakeEngine, image
from tests.integration.rpc.test_errors import failure_of

PROMPT = GenerateRequest(prompt="a cat")
#: More than gRPC takes for a caller that does not read, however slow it finds the line.
_CONTENT = bytes(16 << 20)
LARGE = [*(image(index, _CONTENT) for index in range(8)), COMPLETED]


@pytest.fixture
async def server(engine: FakeEngine, metrics: Metrics, gate: Gate) -> AsyncIterator[GrpcServer]:
    options = GrpcOptions(
        host="127.0.0.1",
        port=0,
        max_receive_message_bytes=64 << 20,
        max_concurrent_streams=100,
        unread_timeout_s=0.2,
    )
    server = build_server(engine, options, metrics, gate)
    await server.start()
    yield server
    await server.stop(grace_s=0)


async def test_a_connection_with_many_answers_unread_gets_no_more(
    engine: FakeEngine, images: ImageServiceStub, server: GrpcServer
) -> None:
    engine.script = LARGE
    calls = [images.Generate(PROMPT) for _ in range(MAX_UNREAD_CALLS)]
    for call in calls:
        await call.read()
    for session in engine.sessions:
        await asyncio.wait_for(session.left.wait(), 60)
    engine.script = [COMPLETED]
    refused = await failure_of(images.Generate(PROMPT))
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(engine.sessions) == MAX_UNREAD_CALLS
    # Another connection is another matter.
    options = [("grpc.use_local_subchannel_pool", 1)]
    address = f"127.0.0.1:{server.port}"
    async with aio.insecure_channel(address, options=options) as another:
        assert [one async for one in ImageServiceStub(another).Generate(PROMPT)]
    for call in calls:
        with pytest.raises(aio.AioRpcError) as caught:
            await read_to_the_end(call)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    async with asyncio.timeout(60):
        while not await is_served(images):
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("server")
async def test_the_error_of_a_call_holds_no_request(
    engine: FakeEngine, images: ImageServiceStub
) -> None:
    """As gRPC keeps it after the call."""
    # Other tests have some of their own.
    before = requests_held()
    kept = ResultsUnread("x")
    engine.script = [kept]
    refused = await failure_of(images.Generate(PROMPT))
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    async with asyncio.timeout(60):
        while requests_held() > before:
            await asyncio.sleep(0.01)
    assert kept.__traceback__ is None


def requests_held() -> int:
    gc.collect()
    return sum(isinstance(one, ImageRequest) for one in gc.get_objects())


async def read_to_the_end(call: aio.UnaryStreamCall) -> None:
    while await call.read() is not aio.EOF:
        pass


async def is_served(images: ImageServiceStub) -> bool:
    try:
        return bool([one async for one in images.Generate(PROMPT)])
    except aio.AioRpcError:
        return False
