"""The asyncio client over a real channel."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import grpc
import pytest
from google.rpc import error_details_pb2

from darkroom.v1 import image_service_pb2, model_service_pb2
from darkroom_client import (
    Accepted,
    AsyncClient,
    Cancelled,
    Completed,
    CorruptImage,
    DeadlineExceeded,
    Event,
    Health,
    ImageReady,
    InvalidRequest,
    ModelNotFound,
    QueueFull,
    Unavailable,
)
from tests.integration.clients.scripted_server import (
    ScriptedServer,
    accepted,
    announce,
    chunk,
    completed,
    error_info,
    fails,
    image,
    queued,
    says,
)

GOOD = says(accepted(), *image(b"picture"), completed())
BUSY = fails(grpc.StatusCode.UNAVAILABLE, "no room", error_info("QUEUE_FULL"), pushback_ms=1)


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.address, timeout=300) as client:
        yield client


async def cancelled(server: ScriptedServer) -> bool:
    return await asyncio.to_thread(server.images.cancelled.wait, 10)


async def test_generate_gives_images_and_tells_its_progress(
    server: ScriptedServer, client: AsyncClient
) -> None:
    server.images.scripts = [says(accepted(), queued(1), *image(b"a"), completed())]
    seen: list[Event] = []
    generation = await client.generate("a cat", on_progress=seen.append)
    assert [made.content for made in generation.images] == [b"a"]
    assert len(seen) == 4


async def test_events_come_one_by_one(server: ScriptedServer, client: AsyncClient) -> None:
    server.images.scripts = [GOOD]
    kinds = [type(event) async for event in client.generate_events("a cat")]
    assert kinds == [Accepted, ImageReady, Completed]


async def test_many_calls_share_a_client(server: ScriptedServer, client: AsyncClient) -> None:
    server.images.scripts = [GOOD] * 4
    made = await asyncio.gather(*(client.generate("a cat", seed=seed) for seed in range(4)))
    assert len(made) == 4
    assert {request.seed for request in server.images.requests} == {0, 1, 2, 3}


async def test_a_large_fill_is_tried_again(server: ScriptedServer, client: AsyncClient) -> None:
    server.images.scripts = [BUSY, BUSY, GOOD]
    generation = await client.fill(os.urandom(2 * 1024 * 1024), b"mask", "a star")
    assert generation.images[0].content == b"picture"
    assert len(server.images.requests) == 3
    assert isinstance(server.images.requests[2], image_service_pb2.FillRequest)


async def test_after_the_fourth_try_the_error_is_told(
    server: ScriptedServer, client: AsyncClient
) -> None:
    server.images.scripts = [BUSY] * 5
    with pytest.raises(QueueFull):
        await client.generate("a cat")
    assert len(server.images.requests) == 4


async def test_details_of_a_status_reach_the_error(
    server: ScriptedServer, client: AsyncClient
) -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="prompt", description="must not be empty")
    info = error_info("INVALID_PARAMETER")
    server.images.scripts = [fails(grpc.StatusCode.INVALID_ARGUMENT, "bad", info, bad)]
    with pytest.raises(InvalidRequest, match="prompt: must not be empty"):
        await client.generate("")


async def test_bytes_that_do_not_add_up_are_an_error(
    server: ScriptedServer, client: AsyncClient
) -> None:
    server.images.scripts = [says(accepted(), announce(b"abcd"), chunk(b"ab"), completed())]
    with pytest.raises(CorruptImage):
        await client.generate("a cat")


async def test_a_stream_without_an_end_is_an_error(
    server: ScriptedServer, client: AsyncClient
) -> None:
    server.images.scripts = [says(accepted())]
    with pytest.raises(CorruptImage, match="ended early"):
        await client.generate("a cat")


async def test_a_timeout_is_an_error_and_reaches_the_server(
    server: ScriptedServer, client: AsyncClient
) -> None:
    server.images.scripts = [server.images.waits(accepted())]
    with pytest.raises(DeadlineExceeded):
        await client.generate("a cat", timeout=0.3)
    assert await cancelled(server)


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with AsyncClient("127.0.0.1:1", max_attempts=1) as client:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
            await client.generate("a cat")


async def test_cancelling_the_task_cancels_the_call(
    server: ScriptedServer, client: AsyncClient
) -> None:
    server.images.scripts = [server.images.waits(accepted())]
    begun = asyncio.Event()
    task = asyncio.create_task(client.generate("a cat", on_progress=lambda _: begun.set()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await cancelled(server)


async def test_leaving_the_loop_cancels_the_call(
    server: ScriptedServer, client: AsyncClient
) -> None:
    server.images.scripts = [server.images.waits(accepted(), queued(1))]
    async for event in client.generate_events("a cat"):
        assert isinstance(event, Accepted)
        break
    assert await cancelled(server)


async def test_closing_the_events_cancels_the_call(
    server: ScriptedServer, client: AsyncClient
) -> None:
    server.images.scripts = [server.images.waits(accepted(), queued(1))]
    async with contextlib.aclosing(client.generate_events("a cat")) as events:
        await anext(events)
    assert await cancelled(server)


async def test_closing_the_client_ends_its_calls(server: ScriptedServer) -> None:
    server.images.scripts = [server.images.waits(accepted())]
    client = AsyncClient(server.address)
    begun = asyncio.Event()
    task = asyncio.create_task(client.generate("a cat", on_progress=lambda _: begun.set()))
    await begun.wait()
    await client.close()
    with pytest.raises(Cancelled):
        await task
    assert await cancelled(server)


async def test_models_and_health(server: ScriptedServer, client: AsyncClient) -> None:
    server.models.models = [
        model_service_pb2.Model(name="models/a"),
        model_service_pb2.Model(name="models/b"),
    ]
    assert [model.name for model in await client.list_models()] == ["models/a", "models/b"]
    assert (await client.get_model("models/b")).name == "models/b"
    assert await client.health() is Health.SERVING
    with pytest.raises(ModelNotFound):
        await client.get_model("x")
