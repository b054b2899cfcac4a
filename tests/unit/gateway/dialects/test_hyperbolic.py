"""Hyperbolic's route: values that do not exist, and those that change nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.rpc.fake_engine import FakeEngine
from tests.unit.gateway.http_calls import posted


@pytest.mark.parametrize("path", ["/v1/image/generation", "/v1/images/generations"])
@pytest.mark.parametrize(
    ("given", "warned"),
    [({"backend": "auto"}, ""), ({"backend": "tvm", "style_preset": "x"}, "backend style_preset")],
)
async def test_what_changes_nothing_is_told(path: str, given: dict[str, Any], warned: str) -> None:
    answer = await posted(FakeEngine(), path, json={"prompt": "x", "model_name": "sdxl", **given})
    assert answer.status_code == 200, answer.text
    expected = ", ".join(f"PARAMETER_IGNORED {name}" for name in warned.split())
    assert answer.headers.get("x-darkroom-warning", "") == expected


async def test_a_backend_that_does_not_exist_is_refused() -> None:
    body = {"prompt": "x", "model_name": "sdxl", "backend": "onnx"}
    answer = await posted(FakeEngine(), "/v1/image/generation", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "backend")
