"""What each key's requests take of devices, as it is scraped: by the key's id, never by the key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from darkroom.v1.image_service_pb2 import GenerateRequest
from darkroom_server.access.gate import Gate, GateOptions
from darkroom_server.access.key_format import new_key
from darkroom_server.access.keys_file import add_key
from darkroom_server.domain.jobs import WorkAccount
from darkroom_server.telemetry.metrics import Metrics
from tests.integration.rpc.fake_engine import COMPLETED, FakeEngine, image
from tests.unit.access.example_keys import api_key


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


@pytest.fixture
async def gate(keys_file: Path) -> AsyncIterator[Gate]:
    add_key(keys_file, api_key(new_key()))
    gate = Gate(GateOptions(keys_file=keys_file))
    yield gate
    await gate.stop()


def seconds_by_key(metrics: Metrics) -> tuple[dict[str, float], str]:
    text = metrics.render("")[0].decode()
    return {
        sample.labels["key"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "darkroom_device_seconds_total" and sample.value
    }, text


async def test_device_seconds_are_those_of_each_key(
    engine: FakeEngine, images: Any, gate: Gate, keys_file: Path, metrics: Metrics
) -> None:
    keys = [new_key(), new_key()]
    for key in keys:
        add_key(keys_file, api_key(key))
    gate.refresh_keys()
    for key, device_s in ((keys[0], 1.25), (keys[1], 0.5), (keys[0], 2.0)):
        engine.script = [image(), replace(COMPLETED, account=WorkAccount(device_s=device_s))]
        shown = (("authorization", f"Bearer {key.text}"),)
        async for _ in images.Generate(GenerateRequest(prompt="x"), metadata=shown):
            pass
    found, text = seconds_by_key(metrics)
    assert found == {keys[0].id: 3.25, keys[1].id: 0.5}
    for key in keys:
        assert key.text not in text
