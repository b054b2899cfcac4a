"""A real server on a free port of the loopback, over a fake engine."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from grpc import aio

from darkroom.v1 import image_service_pb2_grpc, model_service_pb2_grpc
from darkroom_server.access.gate import Gate, GateOptions
from darkroom_server.rpc.server import GrpcOptions, GrpcServer, build_server
from darkroom_server.telemetry.metrics import Metrics
from tests.integration.rpc.fake_engine import FakeEngine


@pytest.fixture
async def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def gate() -> Gate:
    return Gate(GateOptions())


@pytest.fixture
async def server(engine: FakeEngine, metrics: Metrics, gate: Gate) -> AsyncIterator[GrpcServer]:
    server = build_server(
        engine,
        GrpcOptions(
            host="127.0.0.1",
            port=0,
            max_receive_message_bytes=64 << 20,
            max_concurrent_streams=100,
        ),
        metrics,
        gate,
    )
    await server.start()
    yield server
    await server.stop(grace_s=0)


@pytest.fixture
async def channel(server: GrpcServer) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


@pytest.fixture
def images(channel: aio.Channel) -> image_service_pb2_grpc.ImageServiceStub:
    return image_service_pb2_grpc.ImageServiceStub(channel)


@pytest.fixture
def models(channel: aio.Channel) -> model_service_pb2_grpc.ModelServiceStub:
    return model_service_pb2_grpc.ModelServiceStub(channel)
