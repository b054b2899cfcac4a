"""The OpenAPI document that the HTTP edge serves."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator
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
        "/together/v1/images/edits",
        *("/v1/models/{model}/predictions", "/v1/predictions"),
        *("/replicate/v1/models/{model}/predictions", "/replicate/v1/predictions"),
        *("/fal-ai/{app}", "/fal-ai/{app}/stream", "/queue/fal-ai/{app}"),
    ],
)
def test_every_dialect_s_body_is_described(document: dict[str, Any], path: str) -> None:
    content = document["paths"][path]["post"]["requestBody"]["content"]
    schemas = [one["schema"] for one in content.values()]
    assert all({"prompt", "inputs", "input"} & schema["properties"].keys() for schema in schemas)


#: Bodies with what each needs at least, and whether a route that draws, or changes, takes them.
BODIES = [
    pytest.param({"prompt": "a"}, True, False, id="a-prompt"),
    pytest.param({"image": "data:,"}, True, True, id="an-image"),
    pytest.param({"image_url": {"url": "data:,"}}, True, True, id="an-image-by-another-name"),
    pytest.param({"prompt": "a", "image": "data:,"}, True, True, id="both"),
    pytest.param({"seed": 1}, False, False, id="neither"),
    pytest.param({}, False, False, id="nothing"),
]


@pytest.mark.parametrize(("body", "draws", "changes"), BODIES)
@pytest.mark.parametrize(
    ("path", "is_change"),
    [
        *((path, False) for path in ("/api/v1/images/generation", "/v1/image/generation")),
        *((path, False) for path in ("/v1/images/generations", "/fal-ai/{app}")),
        *((path, False) for path in ("/fal-ai/{app}/stream", "/queue/fal-ai/{app}")),
        *((path, False) for path in ("/v1/predictions", "/v1/models/{model}/predictions")),
        *((path, True) for path in ("/v1/images/edits", "/nebius/v1/images/edits")),
    ],
)
def test_an_image_makes_the_prompt_optional(
    document: dict[str, Any],
    path: str,
    is_change: bool,
    body: dict[str, Any],
    draws: bool,
    changes: bool,
) -> None:
    content = document["paths"][path]["post"]["requestBody"]["content"]
    if "predictions" in path:
        body = {"input": body, "version": "sdxl"}
    for media_type, told in content.items():
        if media_type == "multipart/form-data" and isinstance(body.get("image_url"), dict):
            continue  # a form has texts and files
        is_valid = Draft202012Validator(told["schema"]).is_valid(body)
        assert is_valid is (changes if is_change else draws), media_type


def test_the_route_of_two_dialects_takes_the_bodies_of_both(document: dict[str, Any]) -> None:
    told = document["paths"]["/v1/images/generations"]["post"]["requestBody"]["content"]
    validator = Draft202012Validator(told["application/json"]["schema"])
    assert validator.is_valid({"inputs": "a"})
    assert not validator.is_valid({"inputs": 5})
