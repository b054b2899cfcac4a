from __future__ import annotations

import asyncio

import pytest
from fastapi import Request

from darkroom_server.access.caller import set_caller
from darkroom_server.access.gate import Gate, GateOptions, Need
from darkroom_server.domain.errors import Cancelled
from darkroom_server.domain.jobs import Task
from darkroom_server.domain.models import ModelRef
from darkroom_server.gateway.image_results import run, unless_gone
from darkroom_server.requests.image_requests import ImageRequest
from tests.integration.rpc.fake_engine import FOREVER, FakeEngine
from tests.unit.image_decoding.pictures_here import PicturesHere


async def test_a_caller_that_has_gone_stops_its_work() -> None:
    engine = FakeEngine()
    engine.script = [FOREVER]

    async def receive() -> dict[str, str]:
        await engine.opened.wait()
        await engine.sessions[0].waiting.wait()
        return {"type": "http.disconnect"}

    set_caller(Gate(GateOptions()).enter(None, Need.NOTHING))
    request = Request({"type": "http"}, receive)
    asked = ImageRequest(task=Task.TEXT_TO_IMAGE, prompt="x")
    with pytest.raises(Cancelled):
        await unless_gone(request, run(engine, PicturesHere(), ModelRef(), asked))  # type: ignore[arg-type]
    async with asyncio.timeout(300):
        await engine.sessions[0].left.wait()
