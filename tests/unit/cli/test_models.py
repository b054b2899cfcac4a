"""`darkroom models`: what it says of a server's models."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import Result

from darkroom.v1 import model_service_pb2
from tests.integration.clients.scripted_server import ScriptedServer

Darkroom = Callable[..., Result]
Model = model_service_pb2.Model


@pytest.fixture(autouse=True)
def models(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    server.models.models = [
        Model(
            name="models/tiny",
            tasks=[Model.TASK_TEXT_TO_IMAGE, Model.TASK_FILL],
            state=Model.STATE_READY,
            default_version=2,
            memory_bytes=64 * 2**20,
            versions=[
                model_service_pb2.ModelVersion(version=2, state=Model.STATE_READY),
                model_service_pb2.ModelVersion(version=1, state=Model.STATE_UNLOADED),
            ],
            parameters=[
                model_service_pb2.ParameterSpec(field="width_px", default_value=256),
                model_service_pb2.ParameterSpec(field="height_px", default_value=192),
            ],
        ),
        Model(name="models/broken", state=Model.STATE_FAILED, state_message="[no] weights"),
    ]


def test_the_table_has_a_line_for_each_model(darkroom: Darkroom) -> None:
    result = darkroom("models")
    assert result.exit_code == 0
    heading, tiny, broken = result.stdout.splitlines()
    assert heading.split()[:2] == ["name", "state"]
    assert tiny.split() == [
        *("tiny", "ready", "2*,", "1", "text-to-image,", "fill", "256x192", "64", "MiB"),
    ]
    assert broken.split() == ["broken", "failed:", "[no]", "weights", "-", "-"]


def test_json_tells_all_that_is_known(darkroom: Darkroom) -> None:
    tiny, broken = json.loads(darkroom("models", "--json").stdout)
    assert tiny["tasks"] == ["text-to-image", "fill"]
    assert [version["state"] for version in tiny["versions"]] == ["ready", "unloaded"]
    assert broken["default_version"] is None


def test_no_server_exits_with_4(darkroom: Darkroom) -> None:
    assert darkroom("models", "--server", "127.0.0.1:1").exit_code == 4
