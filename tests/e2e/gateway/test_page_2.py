"""The second page: the real `huggingface_hub` client, unmodified, and the page's snippet."""

from __future__ import annotations

import io
from typing import Any

import httpx
import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import BadRequestError, HfHubHTTPError
from PIL import Image

from tests.e2e.gateway.conftest import DEV, FILL, SCHNELL, SDXL, Service, base64_of, grey, opened

SMALL = {"width": 64, "height": 64, "num_inference_steps": 3, "seed": 5}


def client(service: Service, model: str) -> InferenceClient:
    return InferenceClient(model=f"{service.url}/models/{model}", token="tok")


@pytest.mark.parametrize("path", ["", "/v1", f"/models/{DEV}", f"/hf-inference/models/{DEV}"])
def test_page_2_row_1_the_client_gets_a_picture_from_every_route(
    service: Service, path: str
) -> None:
    picture = InferenceClient(base_url=f"{service.url}{path}").text_to_image(
        "a cat", width=64, height=128
    )
    assert picture.size == (64, 128)


def test_page_2_rows_4_to_10_every_parameter_of_the_page_is_taken(service: Service) -> None:
    picture = client(service, SDXL).text_to_image(
        "a cat",
        negative_prompt="dog",
        guidance_scale=3.5,
        scheduler="FakeScheduler",
        **SMALL,
    )
    assert picture.size == (64, 64)


def test_page_2_row_10_the_same_seed_makes_the_same_picture_and_does_not_leak(
    service: Service,
) -> None:
    hf = client(service, SCHNELL)
    first, second = (np.asarray(hf.text_to_image("a cat", **SMALL)) for _ in range(2))
    assert np.array_equal(first, second)
    unseeded = {name: value for name, value in SMALL.items() if name != "seed"}
    assert not np.array_equal(first, np.asarray(hf.text_to_image("a cat", **unseeded)))


def test_page_2_rows_2_and_11_the_answer_is_the_image_itself(service: Service) -> None:
    response = httpx.post(
        f"{service.url}/hf-inference/models/{DEV}",
        headers={"Authorization": "Bearer: hf_1"},
        json={"inputs": "Astronaut riding a horse"},
    )
    assert Image.open(io.BytesIO(response.content)).format == "PNG"
    assert response.headers["content-type"] == "image/png"
    assert int(response.headers["content-length"]) == len(response.content)


@pytest.mark.parametrize("token", ["Bearer hf_1", "Bearer: hf_1", "hf_1", None])
def test_page_2_row_2_any_token_will_do_where_keys_are_off(
    service: Service, token: str | None
) -> None:
    headers = {} if token is None else {"authorization": token}
    answer = service.http.post("/v1", json={"inputs": "x"}, headers=headers)
    assert answer.status_code == httpx.codes.OK


@pytest.mark.parametrize("name", [DEV, "black-forest-labs/flux-dev"])
def test_page_2_row_1_both_ids_of_the_page_are_one_model(service: Service, name: str) -> None:
    answer = service.http.post(f"/models/{name}", json={"inputs": "x"})
    assert answer.headers["x-darkroom-model"] == "dev/1"


@pytest.mark.parametrize(
    "text", ["ein Hund 🐕 犬", "cat " * 100, "cat " * 1000], ids=["unicode", "77", "512"]
)
def test_page_2_row_3_any_text_is_taken(service: Service, text: str) -> None:
    answer = service.http.post("/v1", json={"inputs": text, "parameters": {"width": 64}})
    assert answer.status_code == httpx.codes.OK


@pytest.mark.parametrize("scale", [7, 3.5, 0])
def test_page_2_row_5_guidance_is_any_number(service: Service, scale: float) -> None:
    answer = service.http.post("/v1", json={"inputs": "x", "parameters": {"guidance_scale": scale}})
    assert answer.status_code == httpx.codes.OK


@pytest.mark.parametrize(
    ("count", "status"), [(4, 200), (4.0, 200), ("4", 200), (0, 400), (4.5, 400)]
)
def test_page_2_row_7_steps_are_a_whole_number(service: Service, count: Any, status: int) -> None:
    parameters = {"num_inference_steps": count, "width": 64, "height": 64}
    answer = service.http.post("/v1", json={"inputs": "x", "parameters": parameters})
    assert answer.status_code == status
    assert status == httpx.codes.OK or "num_inference_steps" in answer.json()["error"]


@pytest.mark.parametrize(
    "size",
    [{"width": 64, "height": 128}, {"target_size": {"width": 64, "height": 128}}],
    ids=["new", "old"],
)
def test_page_2_row_8_the_size_in_either_form(service: Service, size: dict[str, Any]) -> None:
    answer = service.http.post("/v1", json={"inputs": "x", "parameters": size})
    assert opened(answer.content).size == (64, 128)


def test_an_image_and_a_mask_are_a_fill(service: Service) -> None:
    picture = client(service, FILL).image_to_image(
        grey(90),
        prompt="a red cap",
        mask_image=base64_of(grey(0)),
        preserve_unmasked=True,
        seed=7,
    )
    assert set(np.unique(np.asarray(picture))) == {90}


def test_an_image_alone_begins_what_a_model_of_images_makes(service: Service) -> None:
    picture = client(service, SDXL).image_to_image(
        grey(90), prompt="a cap", target_size={"width": 96, "height": 64}
    )
    assert picture.size == (96, 64)


def test_a_fill_without_a_mask_names_it(service: Service) -> None:
    with pytest.raises(BadRequestError, match="mask"):
        client(service, FILL).image_to_image(grey(90), prompt="x")


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="raw"),
        pytest.param({"strength": 0.9}, id="json"),
        pytest.param({"prompt": ""}, id="empty"),
    ],
)
def test_an_image_alone_needs_no_prompt(service: Service, settings: dict[str, Any]) -> None:
    assert client(service, SDXL).image_to_image(grey(90), **settings).size == (64, 64)


def test_errors_are_shown_by_the_client(service: Service) -> None:
    with pytest.raises(BadRequestError, match="num_inference_steps") as caught:
        client(service, SDXL).text_to_image("a cat", num_inference_steps=0)
    assert caught.value.request_id
    with pytest.raises(HfHubHTTPError, match="nobody") as missing:
        client(service, "nobody").text_to_image("a cat")
    assert missing.value.response.status_code == httpx.codes.NOT_FOUND
    with pytest.raises(BadRequestError, match="compatible: FakeScheduler"):
        client(service, SDXL).text_to_image("a cat", scheduler="NoScheduler")


@pytest.mark.parametrize("parameters", [{}, None, {"width": None}, {"negative_prompt": ["dog"]}])
def test_page_2_rows_4_and_6_parameters_may_be_left_out(
    service: Service, parameters: object
) -> None:
    answer = service.http.post(
        f"/models/{SDXL}", json={"inputs": "ein Hund 🐕", "parameters": parameters}
    )
    assert answer.status_code == httpx.codes.OK


def test_page_2_row_4_an_unknown_parameter_is_warned_of(service: Service) -> None:
    answer = service.http.post("/v1", json={"inputs": "x", "parameters": {"clip_skip": 2}})
    assert answer.status_code == httpx.codes.OK
    assert "PARAMETER_IGNORED clip_skip" in answer.headers["x-darkroom-warning"]


@pytest.mark.parametrize(
    "body", [{}, {"inputs": ""}, {"inputs": 7}, {"inputs": "x", "parameters": 1}]
)
def test_page_2_row_3_a_bad_body_is_a_400_with_a_text(
    service: Service, body: dict[str, object]
) -> None:
    answer = service.http.post("/", json=body)
    assert answer.status_code == httpx.codes.BAD_REQUEST
    assert isinstance(answer.json()["error"], str)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("*/*", "PNG"),
        ("image/webp, image/png", "WEBP"),
        ("image/png;q=0.5, image/jpeg", "JPEG"),
        ("application/json", "PNG"),
    ],
)
def test_page_2_row_11_the_picture_comes_in_the_format_accepted(
    service: Service, accept: str, form: str
) -> None:
    answer = service.http.post("/v1", json={"inputs": "x"}, headers={"accept": accept})
    assert opened(answer.content).format == form


def test_health_and_info(service: Service) -> None:
    hf = InferenceClient(model=f"{service.url}/models/{SDXL}", provider="hf-inference")
    assert hf.health_check() is True
    assert "text-to-image" in hf.get_endpoint_info()["tasks"]
