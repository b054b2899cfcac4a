"""Generate and Fill over a real channel: the order of events, and who pays when a caller leaves."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os

import grpc
import pytest
from PIL import Image

from darkroom.v1 import image_pb2, image_service_pb2_grpc
from darkroom.v1.image_service_pb2 import FillRequest, GenerateRequest
from darkroom_server.domain.jobs import JobProgress, JobQueued, Stage, Task
from darkroom_server.domain.models import ModelRef
from tests.integration.rpc.fake_engine import COMPLETED, FOREVER, image
from tests.unit.example_models import FLUX_FILL, status


def png(width_px: int, height_px: int, color: str = "white", mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (width_px, height_px), color).save(file, "PNG")
    return file.getvalue()


async def kinds_of(call) -> list[str]:
    return [response.event.WhichOneof("event") async for response in call]


async def test_events_come_in_the_order_of_the_contract(engine, images):
    engine.script = [
        JobQueued(2),
        JobProgress(stage=Stage.DENOISE, completed_step_count=1, total_step_count=2),
        image(0),
        image(1),
        COMPLETED,
    ]
    responses = [r async for r in images.Generate(GenerateRequest(prompt="a cat"))]
    kinds = [response.event.WhichOneof("event") for response in responses]
    assert kinds == [
        "accepted", "queued", "progress", "image", "chunk", "image", "chunk", "completed",
    ]  # fmt: skip
    assert [response.event.sequence for response in responses] == list(range(8))
    assert all(response.event.HasField("event_time") for response in responses)


async def test_accepted_says_what_runs(images):
    request = GenerateRequest(model="models/sdxl", prompt="a cat", width_px=101, seed=5)
    responses = [r async for r in images.Generate(request)]
    accepted = responses[0].event.accepted
    assert accepted.generation_id == "job-1"
    parameters = accepted.parameters
    assert (parameters.model, parameters.model_version) == ("models/sdxl", 3)
    assert parameters.model_digest == "0123456789abcdef"
    assert parameters.fingerprint == "0123456789ab/fp32/torch/exact"
    assert (parameters.width_px, parameters.height_px) == (96, 256)
    assert list(parameters.seeds) == [5]
    assert parameters.output.format == image_pb2.OUTPUT_FORMAT_PNG
    assert [(w.reason, w.field) for w in accepted.warnings] == [("DIMENSION_ROUNDED", "width_px")]


async def test_an_image_of_8_mib_reaches_a_client_with_the_stock_limit(engine, images):
    content = os.urandom(8 * 1024 * 1024 + 1)
    engine.script = [image(content=content), COMPLETED]
    responses = [r async for r in images.Generate(GenerateRequest(prompt="a cat"))]
    announced = next(r.event.image for r in responses if r.event.HasField("image"))
    chunks = [r.event.chunk for r in responses if r.event.HasField("chunk")]
    assert announced.size_bytes == len(content)
    assert announced.sha256 == hashlib.sha256(content).digest()
    assert max(len(chunk.content) for chunk in chunks) == 256 * 1024
    assert b"".join(chunk.content for chunk in chunks) == content
    offsets = [chunk.offset_bytes for chunk in chunks]
    assert offsets == list(range(0, len(content), 256 * 1024))


async def test_validate_only_runs_nothing(engine, images):
    request = GenerateRequest(prompt="a cat", validate_only=True)
    assert await kinds_of(images.Generate(request)) == ["accepted", "completed"]
    assert engine.sessions[0].spec is None


async def test_model_version_and_task_reach_the_engine(engine, images):
    request = GenerateRequest(model="sdxl", version="stable", prompt="a cat")
    await kinds_of(images.Generate(request))
    session = engine.sessions[0]
    assert (session.ref, session.task) == (ModelRef("sdxl", "stable"), Task.TEXT_TO_IMAGE)


async def test_fill_sends_pixels_at_the_size_of_the_models_grid(engine, images):
    engine.models = (status(FLUX_FILL),)
    request = FillRequest(prompt="a cat")
    request.image.content = png(1000, 750, "red")
    request.mask.content = png(500, 375, "white", "L")
    responses = [r async for r in images.Fill(request)]
    accepted = responses[0].event.accepted
    assert (accepted.parameters.width_px, accepted.parameters.height_px) == (992, 736)
    assert accepted.parameters.strength == 1.0
    assert {w.reason for w in accepted.warnings} >= {"DIMENSION_ROUNDED", "MASK_RESIZED"}
    fill = engine.sessions[0].spec.fill
    assert (fill.image.width_px, fill.image.height_px, fill.image.channel_count) == (992, 736, 3)
    assert (fill.mask.width_px, fill.mask.height_px, fill.mask.channel_count) == (992, 736, 1)
    assert set(fill.mask.data) == {255}


async def test_the_deadline_of_the_call_is_the_deadline_of_the_job(engine, images):
    await kinds_of(images.Generate(GenerateRequest(prompt="a cat"), timeout=40))
    await kinds_of(images.Generate(GenerateRequest(prompt="a cat")))
    # gRPC rounds a timeout up when it sends it.
    assert 0 < engine.sessions[0].remaining_s < 41
    assert engine.sessions[1].remaining_s is None


async def test_a_caller_that_cancels_leaves_its_session(engine, images):
    engine.script = [JobQueued(0), FOREVER]
    call = images.Generate(GenerateRequest(prompt="a cat"))
    await call.read()
    await engine.opened.wait()
    await engine.sessions[0].waiting.wait()
    call.cancel()
    await asyncio.wait_for(engine.sessions[0].left.wait(), 10)


async def test_a_deadline_that_passes_leaves_the_session(engine, images):
    engine.script = [FOREVER]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await kinds_of(images.Generate(GenerateRequest(prompt="a cat"), timeout=0.5))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(engine.sessions[0].left.wait(), 10)


async def test_a_caller_that_stops_reading_and_leaves_is_let_go_too(engine, images):
    """Its handler is blocked on a full window, where cancelling arrives in another way."""
    engine.script = [image(content=bytes(64 * 1024 * 1024)), FOREVER]
    call = images.Generate(GenerateRequest(prompt="a cat"))
    await call.read()
    await engine.opened.wait()
    assert not engine.sessions[0].waiting.is_set()
    call.cancel()
    await asyncio.wait_for(engine.sessions[0].left.wait(), 10)
    assert not engine.sessions[0].waiting.is_set()


async def test_without_keys_a_caller_is_its_connection(engine, server):
    engine.script = [COMPLETED]
    own_connection = (("grpc.use_local_subchannel_pool", 1),)
    for _ in range(2):
        address = f"127.0.0.1:{server.port}"
        async with grpc.aio.insecure_channel(address, options=own_connection) as channel:
            stub = image_service_pb2_grpc.ImageServiceStub(channel)
            for _ in range(2):
                await kinds_of(stub.Generate(GenerateRequest(prompt="a cat")))
    first, again, other, last = (session.caller for session in engine.sessions)
    assert first == again != other == last
    assert first.startswith("ipv4:127.0.0.1:")
