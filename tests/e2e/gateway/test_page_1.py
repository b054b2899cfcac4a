"""The first page, sentence by sentence: what a client of Nebula's endpoint checks."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.e2e.gateway.conftest import (
    FILL,
    SCHNELL,
    SDXL,
    Service,
    base64_of,
    encoded,
    grey,
    opened,
)

ROUTE = "/api/v1/images/generation"
SMALL = {"width": 64, "height": 64, "num_steps": 3, "seed": 5}
FILLING = {"model": FILL, "prompt": "a red cap", "image": base64_of(grey(90))} | SMALL
MASKED = FILLING | {"mask": base64_of(grey(255))}


def ask(service: Service, body: dict[str, Any]) -> httpx.Response:
    return service.http.post(ROUTE, json=body)


def steps_counted(service: Service) -> float:
    """Steps that the slow model has taken, by the metrics."""
    text = service.http.get("/metrics").text
    [line] = re.findall(r'darkroom_steps_total\{model="slow",version="1"\} (\S+)', text)
    return float(line)


def made(service: Service, body: dict[str, Any]) -> str:
    """The base64 of the one picture."""
    answer = ask(service, body)
    assert answer.status_code == httpx.codes.OK, answer.text
    [entry] = answer.json()["data"]
    return str(entry["b64_json"])


@pytest.mark.parametrize("model", [SDXL, SCHNELL])
def test_page_1_row_1_a_prompt_alone_is_enough(service: Service, model: str) -> None:
    assert opened(made(service, {"model": model, "prompt": "a flying cat"})).format == "PNG"


NO_PROMPTS = [{}, {"prompt": ""}, {"prompt": None}]


@pytest.mark.parametrize("model", [{"model": SDXL}, {"model": SCHNELL}], ids=["1", "2"])
@pytest.mark.parametrize("body", NO_PROMPTS, ids=str)
def test_page_1_row_1_no_prompt_is_a_400_that_names_it(
    service: Service, model: dict[str, Any], body: dict[str, Any]
) -> None:
    answer = ask(service, model | body)
    assert answer.status_code == httpx.codes.BAD_REQUEST
    found = answer.json()
    assert (found["status"], found["error"]["param"]) == ("failed", "prompt")
    assert found["message"] == found["error"]["message"]


@pytest.mark.parametrize("body", NO_PROMPTS, ids=str)
def test_page_1_row_1_an_image_needs_no_prompt(service: Service, body: dict[str, Any]) -> None:
    unprompted = {name: value for name, value in MASKED.items() if name != "prompt"}
    assert opened(made(service, unprompted | body))
    unmasked = {"model": SDXL, "image": MASKED["image"], "num_steps": 2}
    assert opened(made(service, unmasked | body))


@pytest.mark.parametrize("body", [{"model": SDXL}, {"model": SCHNELL}, MASKED], ids=["1", "2", "3"])
def test_page_1_row_2_a_null_is_never_refused(service: Service, body: dict[str, Any]) -> None:
    answer = ask(service, {"prompt": "x", "negative_prompt": None} | SMALL | body)
    assert answer.status_code == httpx.codes.OK
    assert "negative_prompt" not in answer.headers.get("x-darkroom-warning", "")


def test_page_1_row_2_a_negative_prompt_that_flux_cannot_honour_is_warned_of(
    service: Service,
) -> None:
    answer = ask(service, {"model": SCHNELL, "prompt": "x", "negative_prompt": "dog"} | SMALL)
    assert answer.status_code == httpx.codes.OK
    assert "PARAMETER_IGNORED negative_prompt" in answer.headers["x-darkroom-warning"]


@pytest.mark.parametrize("width", [96, 96.0, "96"])
def test_page_1_row_3_the_picture_has_the_size_asked_for(service: Service, width: Any) -> None:
    picture = opened(made(service, {"prompt": "x", "model": SDXL} | SMALL | {"width": width}))
    assert picture.size == (96, 64)


@pytest.mark.parametrize("width", [0, -1, 1_000_000, 64.5, "wide", True, [64], "9" * 5000, 1e300])
def test_page_1_row_3_a_senseless_width_is_a_400_that_names_it(
    service: Service, width: Any
) -> None:
    answer = ask(service, {"model": SDXL, "prompt": "x", "width": width})
    assert answer.status_code == httpx.codes.BAD_REQUEST
    assert answer.json()["error"]["param"] == "width"


def test_page_1_row_3_a_size_off_the_grid_is_rounded_down_and_warned_of(service: Service) -> None:
    answer = ask(service, {"model": SDXL, "prompt": "x"} | SMALL | {"width": 103})
    assert opened(answer.json()["data"][0]["b64_json"]).size == (96, 64)
    assert "DIMENSION_ROUNDED width_px" in answer.headers["x-darkroom-warning"]


def test_page_1_row_4_more_steps_make_another_picture_take_longer_and_cost_more(
    service: Service,
) -> None:
    def stepped(count: int) -> dict[str, Any]:
        before = steps_counted(service)
        answer = ask(service, {"model": "slow", "prompt": "x"} | SMALL | {"num_steps": count})
        # What workers count comes a little after their images.
        until_s = time.monotonic() + 300
        while steps_counted(service) < before + count and time.monotonic() < until_s:
            time.sleep(0.05)
        assert steps_counted(service) == before + count
        found: dict[str, Any] = answer.json()["data"][0]
        return found

    few, many = stepped(1), stepped(40)
    assert few["b64_json"] != many["b64_json"]
    assert few["timings"]["inference"] < many["timings"]["inference"]


def test_page_1_row_4_progress_counts_the_steps(service: Service) -> None:
    body = {"model": "slow", "prompt": "x", "stepCount": 20}
    answer = service.http.post("/darkroom/v1/generate", json=body)
    told = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    progress = [one["progress"] for one in told if "progress" in one]
    steps = [one["completedStepCount"] for one in progress]
    assert steps == sorted(steps)
    assert len(set(steps)) > 2
    assert {one["totalStepCount"] for one in progress} == {20}


@pytest.mark.parametrize("scale", [9, 4.5, 0])
def test_page_1_row_5_guidance_is_any_number(service: Service, scale: float) -> None:
    made(service, {"model": SCHNELL, "prompt": "x", "guidance_scale": scale} | SMALL)


def test_page_1_row_6_the_same_seed_makes_the_same_picture(service: Service) -> None:
    body = {"model": SCHNELL, "prompt": "x"} | SMALL
    assert made(service, body) == made(service, body)
    assert made(service, body) != made(service, body | {"seed": 6})
    made(service, body | {"seed": 0})


@pytest.mark.parametrize("seed", [-1, None])
def test_page_1_row_6_a_seed_that_the_service_chose_is_told_and_repeats(
    service: Service, seed: int | None
) -> None:
    body = {"model": SCHNELL, "prompt": "x"} | SMALL
    first = ask(service, body | {"seed": seed})
    chosen = int(first.headers["x-darkroom-seed"])
    assert made(service, body | {"seed": chosen}) == first.json()["data"][0]["b64_json"]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("names", [("image", "mask"), ("input_image", "mask_image")])
def test_page_1_rows_7_and_13_images_by_either_name_in_every_format(
    service: Service, names: tuple[str, str], form: str
) -> None:
    image, mask = base64_of(grey(90, form=form)), base64_of(grey(255, form=form))
    body = {"model": FILL, "prompt": "x", names[0]: image, names[1]: mask} | SMALL
    assert opened(made(service, body)).size == (64, 64)


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda text: text, id="plain"),
        pytest.param(lambda text: "\n".join([text[:50], text[50:]]), id="lines"),
        pytest.param(lambda text: "data:image/png;base64," + text, id="data-url"),
        pytest.param(lambda text: text.rstrip("="), id="no-padding"),
        pytest.param(lambda text: text.replace("+", "-").replace("/", "_"), id="url-safe"),
    ],
)
def test_page_1_row_7_base64_as_clients_write_it(service: Service, write: Any) -> None:
    written = made(service, MASKED | {"image": write(base64_of(grey(90)))})
    assert written == made(service, MASKED)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        pytest.param({"image": "!!"}, "image", id="no-base64"),
        pytest.param({"image": base64_of(b"nothing")}, "image", id="no-image"),
        pytest.param({"image": "https://example.com/a.png"}, "image", id="address"),
        pytest.param({"image": 7}, "image", id="number"),
        pytest.param({"mask": None}, "mask", id="no-mask"),
        pytest.param({"image": None}, "image", id="mask-alone"),
    ],
)
def test_page_1_row_7_a_wrong_image_is_a_400_that_names_it(
    service: Service, fields: dict[str, Any], param: str
) -> None:
    answer = ask(service, MASKED | fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_page_1_row_8_white_is_repainted_and_black_is_kept(service: Service) -> None:
    half = Image.new("L", (64, 64), 0)
    half.paste(255, (32, 0, 64, 64))
    body = MASKED | {"mask": base64_of(encoded(half)), "preserve_unmasked": True}
    pixels = np.asarray(opened(made(service, body)))
    assert set(np.unique(pixels[:, :32])) == {90}
    assert 90 not in pixels[:, 32:]


@pytest.mark.parametrize(("shade", "kept"), [(127, True), (128, False)])
def test_page_1_row_8_grey_is_taken_for_the_nearer(
    service: Service, shade: int, kept: bool
) -> None:
    body = MASKED | {"mask": base64_of(grey(shade)), "preserve_unmasked": True}
    assert (set(np.unique(np.asarray(opened(made(service, body))))) == {90}) is kept


def test_page_1_row_9_a_mask_of_another_size_is_scaled_and_warned_of(service: Service) -> None:
    answer = ask(service, MASKED | {"mask": base64_of(grey(255, (32, 32)))})
    assert answer.status_code == httpx.codes.OK
    assert "MASK_RESIZED" in answer.headers["x-darkroom-warning"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        pytest.param({"model": FILL, "prompt": "x"}, "model", id="text-to-fill"),
        pytest.param(MASKED | {"model": SCHNELL}, "model", id="fill-to-schnell"),
        pytest.param(
            {"model": SCHNELL, "prompt": "x", "image": MASKED["image"]}, "model", id="image"
        ),
    ],
)
def test_page_1_row_11_a_model_that_does_not_do_it(
    service: Service, body: dict[str, Any], param: str
) -> None:
    answer = ask(service, body)
    found = answer.json()["error"]
    assert (answer.status_code, found["code"], found["param"]) == (400, "wrong_task", param)


def test_page_1_row_11_the_models_are_listed_with_their_tasks(service: Service) -> None:
    found = service.http.get("/api/v1/serverless/models").json()["data"]["models"]
    tasks = {one["model_alias"]: one["description"] for one in found}
    assert tasks["schnell"] == "text-to-image"
    assert tasks["fill"] == "fill"
    assert "text-to-image" in tasks["sdxl"]


@pytest.mark.parametrize("name", ["model", "model_name"])
@pytest.mark.parametrize("model", [SDXL, SCHNELL, SDXL.upper()])
def test_page_1_row_15_models_go_by_either_name_in_any_case(
    service: Service, name: str, model: str
) -> None:
    made(service, {name: model, "prompt": "x"} | SMALL)


def test_page_1_row_15_an_unknown_model_is_a_404_that_lists_what_there_is(service: Service) -> None:
    answer = ask(service, {"model": "nobody", "prompt": "x"})
    assert answer.status_code == httpx.codes.NOT_FOUND
    assert "schnell" in answer.json()["message"]


def test_page_1_row_16_the_answer_is_the_page_s(service: Service) -> None:
    answer = ask(service, {"model": SCHNELL, "prompt": "x", "n": 2} | SMALL)
    found = answer.json()
    assert {key: found[key] for key in ("model", "object", "message", "status")} == {
        "model": SCHNELL,
        "object": "list",
        "message": "Image generated successfully",
        "status": "success",
    }
    assert [entry["index"] for entry in found["data"]] == [0, 1]
    assert all(isinstance(entry["timings"]["inference"], float) for entry in found["data"])
    assert answer.headers["x-darkroom-seed"] == "5,6"
    assert answer.headers["x-darkroom-model"] == "schnell/1"
    assert "total;dur=" in answer.headers["server-timing"]


@pytest.mark.parametrize("header", [None, "Bearer ak_1", "Bearer: ak_1", "Basic eDp5", "nonsense"])
def test_page_1_row_17_any_token_will_do_where_keys_are_off(
    service: Service, header: str | None
) -> None:
    headers = {} if header is None else {"authorization": header}
    body = {"model": SDXL, "prompt": "x"} | SMALL
    answer = service.http.post(ROUTE, json=body, headers=headers)
    assert answer.status_code == httpx.codes.OK


def test_the_picture_is_the_one_that_grpc_gives(service: Service) -> None:
    written = made(service, {"model": "sdxl", "prompt": "x"} | SMALL)
    [image] = service.grpc.generate("x", model="sdxl", seed=5, steps=3, width=64, height=64).images
    assert written == base64_of(image.content)


def test_values_that_contradict_each_other_are_a_400(service: Service) -> None:
    answer = ask(service, {"prompt": "x", "num_steps": 3, "steps": 4})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "steps")
    same = ask(service, {"model": SDXL, "prompt": "x", "steps": 3} | SMALL)
    assert same.status_code == httpx.codes.OK


def test_an_id_that_the_caller_gives_comes_back(service: Service) -> None:
    answer = service.http.post(ROUTE, json={}, headers={"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert ask(service, {}).headers["x-request-id"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b"[" * 200_000, b'{"prompt":"\\ud800"}']
)
def test_a_body_that_is_none_is_a_400(service: Service, body: bytes) -> None:
    assert service.http.post(ROUTE, content=body).status_code == httpx.codes.BAD_REQUEST


def test_the_models_are_listed(service: Service) -> None:
    found = service.http.get("/api/v1/serverless/models").json()
    assert {one["model_alias"] for one in found["data"]["models"]} >= {"sdxl", "schnell", "fill"}
