"""Hugging Face's routes: models that are being loaded, and masks that are missed."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from PIL import Image

from darkroom_server.domain.jobs import Task
from darkroom_server.domain.model_status import ModelStatus, VersionState, VersionStatus
from tests.integration.rpc.fake_engine import FakeEngine
from tests.unit.example_models import SDXL
from tests.unit.gateway.http_calls import posted
from tests.unit.image_decoding.pictures import encoded

IMPATIENT = {"x-wait-for-model": "false"}
FILL_ONLY = frozenset({Task.FILL})
PICTURE = base64.b64encode(encoded(Image.new("RGB", (64, 64)))).decode()


def status(name: str, state: VersionState, tasks: frozenset[Task] = SDXL.tasks) -> ModelStatus:
    return ModelStatus(
        model=replace(SDXL, name=name, tasks=tasks),
        versions=(VersionStatus(version=3, state=state),),
        default_version=None if state is VersionState.UNLOADED else 3,
        default_tasks=frozenset() if state is VersionState.UNLOADED else tasks,
    )


@pytest.mark.parametrize("path", ["/", "/v1", "/models/late"])
async def test_who_will_not_wait_is_told_when_to_ask_again(path: str) -> None:
    engine = FakeEngine()
    engine.models = (
        status("fills", VersionState.READY, FILL_ONLY),
        status("gone", VersionState.UNLOADED),
        status("late", VersionState.LOADING),
    )
    answer = await posted(engine, path, json={"inputs": "x"}, headers=IMPATIENT)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json() == {"error": "Model late is currently loading", "estimated_time": 5.0}
    assert engine.sessions == []


async def test_a_default_model_that_serves_is_not_waited_for() -> None:
    engine = FakeEngine()
    engine.models = (status("early", VersionState.READY), status("late", VersionState.LOADING))
    answer = await posted(engine, "/", json={"inputs": "x"}, headers=IMPATIENT)
    assert answer.status_code == 200


async def test_a_mask_that_is_missed_is_called_as_the_clients_send_it() -> None:
    engine = FakeEngine()
    engine.models = (status("fills", VersionState.READY, FILL_ONLY),)
    body = {"inputs": PICTURE, "parameters": {"prompt": "x"}}
    answer = await posted(engine, "/models/fills", json=body)
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "parameters.mask_image: give a mask that says which part to change",
    )


async def test_a_mask_that_was_sent_keeps_its_name() -> None:
    body = {"inputs": PICTURE, "parameters": {"prompt": "x", "mask": "%"}}
    answer = await posted(FakeEngine(), "/models/sdxl", json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "mask: is no base64")


@pytest.mark.parametrize("content", [b"GIF89a", b"", b"{}"])
async def test_what_is_said_to_be_an_image_is_read_as_one(content: bytes) -> None:
    engine = FakeEngine()
    headers = {"content-type": "image/gif"}
    answer = await posted(engine, "/models/sdxl", content=content, headers=headers)
    assert answer.status_code == 400
    assert "PNG" in answer.json()["error"]
    assert engine.sessions == []


async def test_what_is_beside_the_parameters_is_told_to_change_nothing() -> None:
    body = {"inputs": "x", "seed": 5, "options": {"use_cache": False}, "parameters": {"foo": 1}}
    answer = await posted(FakeEngine(), "/models/sdxl", json=body)
    told = answer.headers["x-darkroom-warning"]
    assert told == ", ".join(f"PARAMETER_IGNORED {name}" for name in ("foo", "seed", "options"))


async def test_an_image_by_an_unknown_name_is_refused() -> None:
    body = {"inputs": "x", "parameters": {"control_image": PICTURE}}
    answer = await posted(FakeEngine(), "/models/sdxl", json=body)
    assert (answer.status_code, "control_image" in answer.json()["error"]) == (400, True)
