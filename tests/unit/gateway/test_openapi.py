"""The OpenAPI document that the HTTP edge serves."""

from __future__ import annotations

from typing import Any

import pytest
from openapi_spec_validator import validate

from tests.unit.gateway.test_server import Engine, app_of


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    engine: Any = Engine()
    return app_of(engine).openapi()


def test_it_is_valid(document: dict[str, Any]) -> None:
    validate(document)


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/v1", "/models/{model}", "/hf-inference/models/{model}"),
        *("/api/v1/images/generation", "/v1/image/generation"),
        *("/v1/images/generations", "/together/v1/images/generations", "/v1/images/edits"),
        *("/v1/models/{model}/predictions", "/v1/predictions"),
        *("/replicate/v1/models/{model}/predictions", "/replicate/v1/predictions"),
        *("/fal-ai/{app}", "/fal-ai/{app}/stream", "/queue/fal-ai/{app}"),
    ],
)
def test_every_dialect_s_body_is_described(document: dict[str, Any], path: str) -> None:
    content = document["paths"][path]["post"]["requestBody"]["content"]
    schemas = [one["schema"] for one in content.values()]
    assert all({"prompt", "inputs", "input"} & schema["properties"].keys() for schema in schemas)
