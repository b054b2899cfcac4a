"""Calls are counted by method, model and status."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc import aio

from darkroom.v1.image_service_pb2 import GenerateRequest
from darkroom.v1.model_service_pb2 import ListModelsRequest
from darkroom_server.domain.errors import ModelNotFound
from tests.integration.rpc.fake_engine import FOREVER
from tests.unit.telemetry.test_metrics import scraped

GENERATE = "/darkroom.v1.ImageService/Generate"
PROMPT = GenerateRequest(prompt="a cat")


def counted(metrics) -> dict[tuple[str, ...], float]:
    values = scraped(metrics)
    return {key[1:]: n for key, n in values.items() if key[0] == "darkroom_requests_total"}


async def ended(call) -> None:
    try:
        async for _ in call:
            pass
    except aio.AioRpcError:
        pass


async def test_a_call_counts_once_with_its_status_and_its_model(metrics, images, models):
    await ended(images.Generate(PROMPT))
    await ended(images.Generate(PROMPT))
    await ended(images.Generate(GenerateRequest(prompt="a cat", step_count=0)))
    await models.ListModels(ListModelsRequest())
    assert counted(metrics) == {
        (GENERATE, "sdxl", "OK"): 2,
        (GENERATE, "", "INVALID_ARGUMENT"): 1,
        ("/darkroom.v1.ModelService/ListModels", "", "OK"): 1,
    }


async def test_what_callers_make_up_becomes_no_label(metrics, engine, images, channel):
    engine.open_error = ModelNotFound("made-up", "no model 'made-up'")
    await ended(images.Generate(GenerateRequest(prompt="a cat", model="made-up")))
    nothing = channel.unary_unary("/darkroom.v1.ImageService/MadeUp")
    with pytest.raises(aio.AioRpcError) as caught:
        await nothing(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert counted(metrics) == {(GENERATE, "", "NOT_FOUND"): 1}


async def test_a_caller_that_leaves_is_counted_as_cancelled(metrics, engine, images):
    engine.script = [FOREVER]
    call = images.Generate(PROMPT)
    await call.read()
    await engine.sessions[0].waiting.wait()
    call.cancel()
    await engine.sessions[0].left.wait()
    async with asyncio.timeout(300):
        while not counted(metrics):
            await asyncio.sleep(0.01)
    assert counted(metrics) == {(GENERATE, "sdxl", "CANCELLED"): 1}
