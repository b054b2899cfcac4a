"""Reference images through every dialect: in their order, as many as the model takes.

The fake's grey is its seed, its steps, and i times the grey of image i, mod 256.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from darkroom_client import DarkroomError, InvalidRequest, SizeSource, Task
from tests.e2e.gateway.conftest import (
    KLEIN,
    SDXL,
    Service,
    base64_of,
    grey,
    opened,
)

SEED, STEP_COUNT = 5, 3
GREYS = (1, 20, 40)
SUM = SEED + STEP_COUNT + 1 * 1 + 2 * 20 + 3 * 40
FILES = [grey(shade) for shade in GREYS]
TEXTS = [base64_of(content) for content in FILES]
URLS = [f"data:image/png;base64,{text}" for text in TEXTS]
SAID = {"prompt": "put them together", "seed": SEED, "num_inference_steps": STEP_COUNT}


def shade_of(content: bytes | str) -> tuple[tuple[int, int], int]:
    """Size and grey of a picture of one grey."""
    picture = opened(content)
    (shade,) = np.unique(np.asarray(picture))
    return picture.size, int(shade)


def of_openai(answer: httpx.Response) -> bytes | str:
    text: str = answer.json()["data"][0]["b64_json"]
    return text


def of_address(service: Service, answer: httpx.Response) -> bytes:
    address = answer.json()["output"][0]
    return service.http.get(address).content


def post_form(service: Service, name: str, files: list[bytes], **fields: Any) -> httpx.Response:
    parts: list[Any] = [(name, (f"{at}.png", one, "image/png")) for at, one in enumerate(files)]
    data = {key: str(value) for key, value in ({"model": KLEIN} | SAID | fields).items()}
    return service.http.post("/v1/images/edits", data=data, files=parts)


@pytest.mark.parametrize("name", ["image", "image[]", "images", "reference_images"])
def test_openai_s_edits_by_a_form(service: Service, name: str) -> None:
    answer = post_form(service, name, FILES)
    assert answer.status_code == httpx.codes.OK, answer.text
    assert shade_of(of_openai(answer)) == ((64, 64), SUM)


JSON_CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai-edits": (
        "/v1/images/edits",
        {"model": KLEIN, "images": [{"image_url": one} for one in URLS]},
    ),
    "together": ("/v1/images/generations", {"model": KLEIN, "reference_images": URLS}),
    "nebula": ("/api/v1/images/generation", {"model_name": KLEIN, "reference_images": TEXTS}),
    "nebula-images": ("/api/v1/images/generation", {"model": KLEIN, "input_images": TEXTS}),
    "nebula-numbered": (
        "/api/v1/images/generation",
        {
            "model": KLEIN,
            "input_image": TEXTS[0],
            "input_image_2": TEXTS[1],
            "input_image_3": URLS[2],
        },
    ),
}


@pytest.mark.parametrize("call", [*JSON_CALLS])
def test_bodies_of_json(service: Service, call: str) -> None:
    path, body = JSON_CALLS[call]
    answer = service.http.post(path, json=SAID | body)
    assert answer.status_code == httpx.codes.OK, answer.text
    found = answer.json()
    made = of_openai(answer) if "data" in found else found["images"][0]
    assert shade_of(made if isinstance(made, str) else made["image"]) == ((64, 64), SUM)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"input_images": URLS}, id="input-images"),
        pytest.param({"image_input": None, "images": URLS}, id="images"),
        pytest.param({f"input_image_{at + 1}": one for at, one in enumerate(URLS)}, id="numbered"),
    ],
)
def test_replicate_s_predictions(service: Service, given: dict[str, Any]) -> None:
    answer = service.http.post(
        f"/v1/models/{KLEIN}/predictions",
        json={"input": SAID | given},
        headers={"prefer": "wait=60"},
    )
    assert answer.json()["status"] == "succeeded", answer.text
    assert shade_of(of_address(service, answer)) == ((64, 64), SUM)


def test_fal_s_image_urls(service: Service) -> None:
    body = SAID | {"image_urls": URLS, "sync_mode": True}
    answer = service.http.post(f"/fal-ai/{KLEIN}/edit", json=body)
    assert answer.status_code == httpx.codes.OK, answer.text
    picture = opened(answer.json()["images"][0]["url"].partition(",")[2])
    # A JPEG, whose greys are near.
    assert abs(int(np.asarray(picture).mean()) - SUM) <= 2


def test_hugging_face_s_image_to_image(service: Service) -> None:
    """One in `inputs`; more of them among the parameters."""
    parameters = {**SAID}
    one = service.http.post(f"/models/{KLEIN}", json={"inputs": TEXTS[0], "parameters": parameters})
    assert one.status_code == httpx.codes.OK, one.text
    assert shade_of(one.content) == ((64, 64), SEED + STEP_COUNT + 1)
    parameters["reference_images"] = TEXTS
    prompt = parameters.pop("prompt")
    more = service.http.post(f"/models/{KLEIN}", json={"inputs": prompt, "parameters": parameters})
    assert more.status_code == httpx.codes.OK, more.text
    assert shade_of(more.content) == ((64, 64), SUM)


def test_triton_s_tensor_of_any_number(service: Service) -> None:
    def tensor(name: str, datatype: str, data: list[Any]) -> dict[str, Any]:
        return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}

    inputs = [
        tensor("PROMPT", "BYTES", ["x"]),
        tensor("SEED", "UINT64", [SEED]),
        tensor("STEPS", "INT32", [STEP_COUNT]),
        tensor("REFERENCE_IMAGES", "BYTES", TEXTS),
    ]
    answer = service.http.post("/v2/models/klein/infer", json={"inputs": inputs})
    assert answer.status_code == httpx.codes.OK, answer.text
    (made,) = [one for one in answer.json()["outputs"] if one["name"] == "IMAGE"]
    assert shade_of(made["data"][0]) == ((64, 64), SUM)
    body = {"prompt": "x", "seed": SEED, "steps": STEP_COUNT, "reference_images": TEXTS}
    generated = service.http.post("/v2/models/klein/generate", json=body)
    assert shade_of(generated.json()["IMAGE"]) == ((64, 64), SUM)
    told = service.http.get("/v2/models/klein").json()["inputs"]
    assert {"name": "REFERENCE_IMAGES", "datatype": "BYTES", "shape": [-1]} in told


def test_connect_s_json(service: Service) -> None:
    body = {
        "model": KLEIN,
        "prompt": "x",
        "seed": SEED,
        "stepCount": STEP_COUNT,
        "referenceImages": [{"content": text} for text in TEXTS],
    }
    answer = service.http.post(
        "/darkroom.v1.ImageService/Generate",
        content=(content := _enveloped(body)),
        headers={"content-type": "application/connect+json", "content-length": str(len(content))},
    )
    assert answer.status_code == httpx.codes.OK
    assert b'"completed"' in answer.content


def _enveloped(body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    return struct.pack(">BI", 0, len(content)) + content


def test_the_python_client_and_the_list_of_models(service: Service) -> None:
    made = service.grpc.generate(
        "x", model=KLEIN, seed=SEED, steps=STEP_COUNT, reference_images=FILES
    )
    assert shade_of(made.images[0].content) == ((64, 64), SUM)
    model = service.grpc.get_model(KLEIN)
    assert Task.EDIT in model.tasks
    assert model.reference_images is not None
    assert (model.reference_images.min_count, model.reference_images.max_count) == (0, 10)
    assert model.reference_images.size_source is SizeSource.FIRST
    assert service.grpc.get_model(SDXL).reference_images is None


def test_an_edit_without_a_model_gets_one_that_edits(service: Service) -> None:
    made = service.grpc.generate("x", seed=SEED, steps=STEP_COUNT, reference_images=FILES)
    assert made.parameters.model == "models/klein"


def test_the_size_is_the_first_one_s_unless_it_is_asked_for(service: Service) -> None:
    files = [grey(1, (128, 72)), grey(2, (64, 64))]
    made = service.grpc.generate("x", model=KLEIN, seed=0, steps=1, reference_images=files)
    assert shade_of(made.images[0].content) == ((128, 72), 0 + 1 + 1 + 4)
    asked = service.grpc.generate(
        "x", model=KLEIN, seed=0, steps=1, width=64, height=80, reference_images=files
    )
    assert shade_of(asked.images[0].content) == ((64, 80), 0 + 1 + 1 + 4)


REFUSED: dict[str, tuple[Callable[[Service], object], str, str]] = {
    "model": (
        lambda service: service.grpc.generate("x", model=SDXL, reference_images=FILES),
        "reference_images",
        "models/sdxl takes none, these take 3: models/klein",
    ),
    "many": (
        lambda service: service.grpc.generate("x", model=KLEIN, reference_images=[FILES[0]] * 11),
        "reference_images",
        "has 11 entries; at most 10",
    ),
    "broken": (
        lambda service: service.grpc.generate("x", model=KLEIN, reference_images=[FILES[0], b"no"]),
        "reference_images[1].content",
        "not a PNG, JPEG or WebP",
    ),
    "image": (
        lambda service: service.grpc.generate("x", model=KLEIN, image=FILES[0]),
        "image",
        "it edits images in reference_images",
    ),
    "both": (
        lambda service: service.grpc.generate(
            "x", model=KLEIN, image=FILES[0], reference_images=FILES
        ),
        "reference_images",
        "not together with an image",
    ),
}


@pytest.mark.parametrize("case", [*REFUSED])
def test_what_is_refused_names_the_image(service: Service, case: str) -> None:
    call, field, words = REFUSED[case]
    with pytest.raises(DarkroomError) as caught:
        call(service)
    assert isinstance(caught.value, InvalidRequest)
    assert [(one.field, words in one.description) for one in caught.value.violations] == [
        (field, True)
    ]


def test_over_http_the_image_at_fault_has_its_own_name(service: Service) -> None:
    answer = post_form(service, "image[]", [FILES[0], b"GIF89a"])
    assert answer.status_code == httpx.codes.BAD_REQUEST
    assert answer.json()["error"]["param"] == "image[1]"
    masked = service.http.post(
        "/v1/images/edits",
        json=SAID | {"model": KLEIN, "images": URLS, "mask": TEXTS[0]},
    )
    assert masked.json()["error"]["param"] == "images"
    assert "one goes with a mask" in masked.json()["error"]["message"]
