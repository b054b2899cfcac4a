"""Predictions as Replicate's and Hugging Face's clients ask for them."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.e2e.gateway.conftest import FILL, SCHNELL, SDXL, Service, base64_of, grey, opened

SMALL = {"prompt": "x", "width": 64, "height": 64, "num_inference_steps": 3, "seed": 5}
WAIT = {"prefer": "wait"}


def predict(service: Service, model: str, given: Any, **headers: str) -> httpx.Response:
    path = f"/v1/models/{model}/predictions"
    return service.http.post(path, json={"input": given}, headers=headers)


def test_one_that_is_waited_for_has_its_images(service: Service) -> None:
    answer = predict(service, SCHNELL, SMALL | {"num_outputs": 2, "output_format": "jpg"}, **WAIT)
    assert answer.status_code == httpx.codes.CREATED
    found = answer.json()
    assert (found["status"], found["error"], found["input"]["seed"]) == ("succeeded", None, 5)
    assert len(found["output"]) == 2
    for address in found["output"]:
        file = httpx.get(address)
        assert file.headers["content-type"] == "image/jpeg"
        assert opened(file.content).size == (64, 64)
    assert answer.headers["x-darkroom-seed"] == "5,6"
    assert service.http.get(found["urls"]["get"]).json() == found


def test_one_that_is_not_waited_for_is_looked_after(service: Service) -> None:
    found = predict(service, "slow", SMALL | {"num_inference_steps": 10}).json()
    assert found["status"] == "processing"
    until_s = time.monotonic() + 300
    while found["status"] == "processing" and time.monotonic() < until_s:
        time.sleep(0.1)
        found = service.http.get(found["urls"]["get"]).json()
    assert found["status"] == "succeeded"
    assert found["metrics"]["predict_time"] > 0


def test_one_that_is_cancelled_stops(service: Service) -> None:
    mark = len(service.server.log)
    found = predict(service, "slow", SMALL | {"num_inference_steps": 100}).json()
    assert service.http.post(found["urls"]["cancel"]).json()["status"] == "canceled"
    stopped = service.server.until("job stopped", after=mark)
    assert stopped["completed_step_count"] < 100
    assert service.http.get(found["urls"]["get"]).json()["output"] is None


def test_a_version_names_a_model_too(service: Service) -> None:
    body = {"version": f"{SDXL}:0123", "input": SMALL}
    answer = service.http.post("/v1/predictions", json=body, headers=WAIT)
    assert answer.headers["x-darkroom-model"] == "sdxl/1"


def test_an_image_under_every_name_at_once_is_one_image(service: Service) -> None:
    url = f"data:image/png;base64,{base64_of(grey(90))}"
    given = {"image": url, "images": [url], "input_image": url, "input_images": [url]}
    mask = {"mask": f"data:image/png;base64,{base64_of(grey(255))}"}
    answer = predict(service, FILL, SMALL | given | mask, **WAIT)
    assert answer.json()["status"] == "succeeded"
    assert answer.json()["input"] == SMALL


@pytest.mark.parametrize(
    ("model", "given", "status", "text"),
    [
        pytest.param(SDXL, {}, 400, "prompt", id="prompt"),
        pytest.param(SDXL, None, 400, "input", id="input"),
        pytest.param(SDXL, SMALL | {"width": 0}, 400, "width", id="width"),
        pytest.param("no/body", SMALL, 404, "no/body", id="model"),
    ],
)
def test_a_request_that_is_not_admitted_is_a_problem(
    service: Service, model: str, given: Any, status: int, text: str
) -> None:
    answer = predict(service, model, given, **WAIT)
    assert answer.status_code == status
    assert answer.json()["status"] == status
    assert text in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/predictions/nothing", "/files/nothing.png"])
def test_what_is_not_kept_is_a_404(service: Service, path: str) -> None:
    assert service.http.get(path).status_code == httpx.codes.NOT_FOUND
