"""Bodies that `huggingface_hub` sends to each provider, and what it needs of the answer."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.e2e.gateway.conftest import SCHNELL, SDXL, Service, base64_of, grey, opened

SIZE = {"width": 64, "height": 64}
TOGETHER = {"prompt": "x", "response_format": "base64", "seed": 5, "steps": 3, "model": SDXL}
HYPERBOLIC = {"prompt": "x", "model_name": SDXL, "seed": 5, "steps": 3, "cfg_scale": 3.5} | SIZE
ACCEPT = {"accept": "image/png"}


@pytest.mark.parametrize(
    ("prefix", "body"),
    [
        pytest.param("/together", TOGETHER | SIZE | {"guidance_scale": 3.5}, id="together"),
        pytest.param("/together", TOGETHER | SIZE | {"guidance": 3.5}, id="together-old"),
        pytest.param(
            "/nebius",
            {"prompt": "x", "num_inference_steps": 3, "seed": 5, "model": SDXL} | SIZE,
            id="nebius",
        ),
        pytest.param(
            "/nscale",
            {"prompt": "x", "model": SDXL, "guidance_scale": 3.5, "seed": 5, "size": "64x64"},
            id="nscale",
        ),
    ],
)
@pytest.mark.parametrize("prefixed", [True, False])
def test_the_picture_is_in_data(
    service: Service, prefix: str, body: dict[str, Any], prefixed: bool
) -> None:
    path = f"{prefix if prefixed else ''}/v1/images/generations"
    answer = service.http.post(path, json=body, headers=ACCEPT)
    assert answer.status_code == httpx.codes.OK, answer.text
    found = answer.json()
    assert opened(found["data"][0]["b64_json"]).size == (64, 64)
    assert "url" not in found["data"][0]
    assert {"id", "model", "object"} <= found.keys()
    assert answer.headers["x-darkroom-seed"] == "5"


@pytest.mark.parametrize(
    "path",
    ["/v1/image/generation", "/v1/images/generations", "/hyperbolic/v1/images/generations"],
)
def test_hyperbolic_s_picture_is_in_images(service: Service, path: str) -> None:
    answer = service.http.post(path, json=HYPERBOLIC | {"n": 2}, headers=ACCEPT)
    assert answer.status_code == httpx.codes.OK, answer.text
    found = answer.json()
    assert [(one["index"], one["random_seed"]) for one in found["images"]] == [(0, 5), (1, 6)]
    assert opened(found["images"][0]["image"]).format == "JPEG"
    assert found["inference_time"] > 0


def test_hyperbolic_begins_with_an_image(service: Service) -> None:
    body = HYPERBOLIC | {"image": base64_of(grey(90)), "strength": 0.7}
    answer = service.http.post("/v1/image/generation", json=body)
    assert answer.status_code == httpx.codes.OK, answer.text


def test_hugging_face_s_body_at_openai_s_address_gives_the_bytes(service: Service) -> None:
    body = {"inputs": "x", "parameters": SIZE, "model": SCHNELL}
    answer = service.http.post("/v1/images/generations", json=body)
    assert answer.headers["content-type"] == "image/png"
    assert opened(answer.content).size == (64, 64)
    wrong = service.http.post("/v1/images/generations", json=body | {"inputs": ""})
    assert (wrong.status_code, type(wrong.json()["error"])) == (400, str)


@pytest.mark.parametrize("path", ["/v1/image/generation", "/v1/images/generations"])
@pytest.mark.parametrize("name", ["model", "model_name"])
def test_errors_have_a_message_in_an_object(service: Service, path: str, name: str) -> None:
    answer = service.http.post(path, json={"prompt": "x", name: "nobody"})
    assert answer.status_code == httpx.codes.NOT_FOUND
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
