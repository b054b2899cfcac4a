"""The health service over a real channel."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from darkroom_server.domain.model_status import VersionState
from tests.unit.example_models import SDXL, status

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture
def health(channel: aio.Channel) -> health_pb2_grpc.HealthStub:
    return health_pb2_grpc.HealthStub(channel)


def request(service: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


@pytest.mark.parametrize(
    "service", ["", "darkroom.v1.ImageService", "darkroom.v1.ModelService", "models/sdxl"]
)
async def test_a_ready_server_serves(health, service):
    assert (await health.Check(request(service))).status == SERVING


NAMES = [f"{prefix}{name}" for prefix in ("", "models/") for name in ("sdxl", "xl", SDXL.hub_id)]


@pytest.mark.parametrize("name", [*NAMES, *(f"{name}/versions/1" for name in NAMES)])
async def test_a_model_is_known_by_every_name_that_requests_may_use(engine, health, name):
    watch = health.Watch(request(name))
    assert (await health.Check(request(name))).status == SERVING
    assert (await watch.read()).status == SERVING
    engine.models = (status(SDXL, VersionState.UNAVAILABLE),)
    engine.notify()
    assert (await health.Check(request(name))).status == NOT_SERVING
    assert (await watch.read()).status == NOT_SERVING
    watch.cancel()


@pytest.mark.parametrize("name", ["models/nope", "nope", "xl/versions/7", "a/b", "models/"])
async def test_an_unknown_name_is_not_found(health, name):
    with pytest.raises(aio.AioRpcError) as caught:
        await health.Check(request(name))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_watchers_see_every_lasting_change(engine, health):
    first, second = health.Watch(request("")), health.Watch(request("models/sdxl"))
    assert (await first.read()).status == SERVING
    assert (await second.read()).status == SERVING
    engine.models = (status(SDXL, VersionState.UNAVAILABLE),)
    engine.notify()
    assert (await first.read()).status == NOT_SERVING
    assert (await second.read()).status == NOT_SERVING
    engine.models = (status(SDXL),)
    engine.notify()
    assert (await first.read()).status == SERVING
    assert (await second.read()).status == SERVING
    first.cancel()
    second.cancel()


async def test_a_watcher_of_an_unknown_name_waits_for_it(engine, health):
    engine.models = ()
    watch = health.Watch(request("models/sdxl"))
    assert (await watch.read()).status == SERVICE_UNKNOWN
    engine.models = (status(SDXL),)
    engine.notify()
    assert (await watch.read()).status == SERVING
    watch.cancel()


async def test_list_names_everything(channel):
    """List is called with raw bytes, as the installed stub does not know it."""
    listing = channel.unary_unary(
        "/grpc.health.v1.Health/List",
        request_serializer=lambda _: b"",
        response_deserializer=lambda content: content,
    )
    content = await listing(None)
    for name in ("darkroom.v1.ImageService", "darkroom.v1.ModelService", "models/sdxl"):
        # An entry: field 1, the name; field 2, a HealthCheckResponse whose status is 1, SERVING.
        assert b"\x0a" + bytes([len(name)]) + name.encode() + b"\x12\x02\x08\x01" in content


async def test_watches_do_not_hold_up_a_stopping_server(server, health):
    watch = health.Watch(request(""))
    await watch.read()
    await asyncio.wait_for(server.stop(grace_s=3600), 300)
    assert await watch.read() is aio.EOF
