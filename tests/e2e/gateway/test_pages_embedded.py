"""What both pages say of meaning, shown by the pixels of the embedded models."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw

from bench.serving import serving
from tests.e2e.gateway.conftest import FILL, SCHNELL, SDXL, base64_of, encoded

REPOSITORY = Path(__file__).parents[3] / "model_repo"
ALIASES = {SDXL: "tiny-sdxl", SCHNELL: "tiny-flux-schnell", FILL: "tiny-flux-fill"}
SMALL = {"width": 128, "height": 128, "num_steps": 4, "seed": 5}
Pixels = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    flags = [part for alias, name in ALIASES.items() for part in ("--alias", f"{alias}={name}")]
    with serving(REPOSITORY, "--worker-thread-count", "1", *flags) as server:
        server.until_ready(*ALIASES.values())
        url = f"http://127.0.0.1:{server.until('listening')['http_port']}"
        with httpx.Client(base_url=url, timeout=300) as client:
            yield client


def ask(http: httpx.Client, body: dict[str, Any]) -> httpx.Response:
    answer = http.post("/api/v1/images/generation", json=SMALL | body)
    assert answer.status_code == httpx.codes.OK, answer.text
    return answer


def made(http: httpx.Client, **body: Any) -> bytes:
    """The file of the one picture."""
    return base64.b64decode(ask(http, body).json()["data"][0]["b64_json"])


def pixels(content: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def scene() -> Image.Image:
    """A blue square on yellow, of the size that the models were trained at."""
    picture = Image.new("RGB", (256, 256), (235, 205, 60))
    ImageDraw.Draw(picture).rectangle((88, 88, 168, 168), fill=(40, 70, 200))
    return picture


def filled(http: httpx.Client, mask: Image.Image, form: str = "PNG", **body: Any) -> Pixels:
    files = {"image": base64_of(encoded(scene())), "mask": base64_of(encoded(mask, form))}
    asked = {"model": FILL, "prompt": "a red circle on a green background", "num_steps": 8}
    asked |= {"width": 256, "height": 256}
    return pixels(made(http, **(asked | files | body)))


def change(before: Pixels, after: Pixels) -> float:
    """Mean difference of a value, of 255."""
    return float(np.abs(before - after).mean())


def left_half() -> Image.Image:
    mask = Image.new("L", (256, 256), 0)
    mask.paste(255, (0, 0, 128, 256))
    return mask


@pytest.mark.parametrize("model", [SDXL, SCHNELL])
def test_page_1_row_1_a_prompt_alone_is_enough(http: httpx.Client, model: str) -> None:
    answer = http.post("/api/v1/images/generation", json={"model": model, "prompt": "a red circle"})
    assert answer.status_code == httpx.codes.OK


def test_page_1_row_2_a_negative_prompt_changes_the_picture_of_sdxl(http: httpx.Client) -> None:
    asked = {"model": SDXL, "prompt": "a red circle", "guidance_scale": 5}
    assert made(http, **asked) == made(http, **asked, negative_prompt=None)
    assert made(http, **asked) != made(http, **asked, negative_prompt="a blue background")


@pytest.mark.parametrize("model", [SCHNELL, FILL])
def test_page_1_row_2_a_negative_prompt_is_warned_of_on_flux(
    http: httpx.Client, model: str
) -> None:
    files = {name: base64_of(encoded(scene())) for name in ("image", "mask")}
    asked = {"model": model, "prompt": "x"} | (files if model == FILL else {})
    answer = ask(http, asked | {"negative_prompt": "dog"})
    assert "PARAMETER_IGNORED negative_prompt" in answer.headers["x-darkroom-warning"]
    assert answer.json()["data"] != []
    silent = ask(http, asked | {"negative_prompt": None})
    assert "negative_prompt" not in silent.headers.get("x-darkroom-warning", "")


def test_page_1_row_5_guidance_changes_the_picture_of_sdxl(http: httpx.Client) -> None:
    low, high = (made(http, model=SDXL, prompt="a house", guidance_scale=s) for s in (2, 9))
    assert low != high


def test_page_1_row_5_guidance_changes_the_picture_of_fill(http: httpx.Client) -> None:
    low, high = (filled(http, left_half(), guidance_scale=scale) for scale in (4.5, 30))
    assert change(low, high) > 0


def test_page_1_row_5_guidance_is_taken_by_schnell_without_effect(http: httpx.Client) -> None:
    asked = {"model": SCHNELL, "prompt": "a house"}
    answer = ask(http, asked | {"guidance_scale": 9})
    assert "PARAMETER_WITHOUT_EFFECT guidance_scale" in answer.headers["x-darkroom-warning"]
    assert base64.b64decode(answer.json()["data"][0]["b64_json"]) == made(http, **asked)


@pytest.mark.parametrize("model", [SDXL, SCHNELL])
def test_page_1_row_6_the_seed_makes_the_same_bytes_on_a_busy_server(
    http: httpx.Client, model: str
) -> None:
    asked = {"model": model, "prompt": "a yellow star"}
    alone = made(http, **asked, seed=0)
    strangers = [{"model": model, "prompt": f"a house {n}", "seed": n} for n in range(1, 7)]
    with ThreadPoolExecutor(len(strangers) + 1) as pool:
        others = [pool.submit(made, http, **one) for one in strangers]
        among = pool.submit(made, http, **asked, seed=0).result()
        assert all(one.result() != alone for one in others)
    assert among == alone


def test_page_1_row_6_any_seed_is_told_and_makes_the_same_again(http: httpx.Client) -> None:
    asked = {"model": SCHNELL, "prompt": "a yellow star"}
    answer = ask(http, asked | {"seed": -1})
    chosen = int(answer.headers["x-darkroom-seed"])
    again = made(http, **asked, seed=chosen)
    assert base64.b64decode(answer.json()["data"][0]["b64_json"]) == again


def test_page_1_row_8_white_is_repainted_and_black_is_preserved(http: httpx.Client) -> None:
    before, after = np.asarray(scene()).astype(int), filled(http, left_half())
    assert np.array_equal(before[:, 128:], after[:, 128:])
    assert change(before[:, :128], after[:, :128]) > 16


def test_page_1_row_8_the_pipelines_own_pixels_are_had_by_asking(http: httpx.Client) -> None:
    kept, own = filled(http, left_half()), filled(http, left_half(), preserve_unmasked=False)
    assert not np.array_equal(kept[:, 128:], own[:, 128:])
    # Deeper in the mask than its soft edge, 256 / 128 px, both are the same.
    assert np.array_equal(kept[:, :126], own[:, :126])


def test_page_1_row_8_all_black_is_the_input_and_all_white_is_not(http: httpx.Client) -> None:
    before = np.asarray(scene()).astype(int)
    black, white = (filled(http, Image.new("L", (256, 256), shade)) for shade in (0, 255))
    assert np.array_equal(before, black)
    assert change(before, white) > 16


def answered(http: httpx.Client, dialect: str, body: dict[str, Any]) -> Pixels:
    """The picture that a dialect answers the body with, which it gets in a shape of its own."""
    image = body["image"]
    rest = {name: value for name, value in body.items() if name not in ("image", "prompt")}
    match dialect:
        case "hyperbolic":
            found = http.post("/v1/image/generation", json=body)
            return pixels(base64.b64decode(found.json()["images"][0]["image"]))
        case "openai":
            url, files = "/v1/images/edits", {"image": ("a.png", base64.b64decode(image))}
            form = {name: json.dumps(value).strip('"') for name, value in rest.items()}
            form |= {"prompt": body["prompt"], "mask_polarity": "white"}
            found = http.post(url, data=form, files=files)
            return pixels(base64.b64decode(found.json()["data"][0]["b64_json"]))
        case "huggingface":
            sent = {"inputs": image, "parameters": rest | {"prompt": body["prompt"]}}
            return pixels(http.post(f"/models/{body['model']}", json=sent).content)
        case "replicate":
            url, headers = f"/v1/models/{body['model']}/predictions", {"prefer": "wait"}
            found = http.post(url, json={"input": body | {"output_format": "png"}}, headers=headers)
            return pixels(httpx.get(found.json()["output"][0]).content)
        case _:
            raise AssertionError(dialect)


@pytest.mark.parametrize("asked", [None, False], ids=["unasked", "off"])
@pytest.mark.parametrize("dialect", ["hyperbolic", "openai", "huggingface", "replicate"])
def test_black_is_preserved_in_every_dialect_unless_asked_otherwise(
    http: httpx.Client, dialect: str, asked: bool | None
) -> None:
    files = {"image": base64_of(encoded(scene())), "mask": base64_of(encoded(left_half()))}
    body = {"model": FILL, "prompt": "a red circle", "num_inference_steps": 1, "seed": 5}
    body |= {"output_format": "png"} if dialect != "huggingface" else {}
    body |= files if asked is None else files | {"preserve_unmasked": asked}
    after = answered(http, dialect, body)
    is_kept = np.array_equal(np.asarray(scene())[:, 128:], after[:, 128:])
    assert is_kept is (asked is None)


def test_page_1_row_8_the_noise_of_a_jpeg_mask_does_no_harm(http: httpx.Client) -> None:
    clean, noisy = filled(http, left_half()), filled(http, left_half(), "JPEG")
    assert np.array_equal(clean, noisy)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_page_1_row_8_a_mask_of_any_mode_is_the_same(http: httpx.Client, mode: str) -> None:
    assert np.array_equal(filled(http, left_half()), filled(http, left_half().convert(mode)))


def test_page_1_row_10_a_fill_off_the_grid_is_made_smaller_and_that_is_said(
    http: httpx.Client,
) -> None:
    files = {name: base64_of(encoded(scene())) for name in ("image", "mask")}
    size = {"width": 1000, "height": 750, "num_steps": 1}
    answer = ask(http, {"model": FILL, "prompt": "x"} | files | size)
    content = base64.b64decode(answer.json()["data"][0]["b64_json"])
    assert Image.open(io.BytesIO(content)).size == (992, 736)
    for field in ("width_px", "height_px"):
        assert f"DIMENSION_ROUNDED {field}" in answer.headers["x-darkroom-warning"]


def test_page_1_row_10_a_size_on_the_grid_is_left_alone(http: httpx.Client) -> None:
    files = {name: base64_of(encoded(scene())) for name in ("image", "mask")}
    size = {"width": 1024, "height": 1024, "num_steps": 1}
    answer = ask(http, {"model": FILL, "prompt": "x"} | files | size)
    content = base64.b64decode(answer.json()["data"][0]["b64_json"])
    assert Image.open(io.BytesIO(content)).size == (1024, 1024)
    assert "DIMENSION" not in answer.headers["x-darkroom-warning"]


def test_page_1_row_10_too_small_a_size_is_a_400(http: httpx.Client) -> None:
    files = {name: base64_of(encoded(scene())) for name in ("image", "mask")}
    body = {"model": FILL, "prompt": "x", "width": 15, "height": 15} | files
    answer = http.post("/api/v1/images/generation", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "width")


def test_page_2_row_9_a_scheduler_is_of_one_request_only(http: httpx.Client) -> None:
    def drawn(**parameters: Any) -> bytes:
        fixed = {"width": 128, "height": 128, "num_inference_steps": 4, "seed": 5}
        body = {"inputs": "a house", "parameters": fixed | parameters}
        answer = http.post("/models/tiny-sdxl", json=body)
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.content

    before = drawn()
    assert drawn(scheduler="DDIMScheduler") != before
    assert drawn() == before
    assert drawn(scheduler="EulerDiscreteScheduler") == before


def test_page_2_row_9_a_flow_model_refuses_ddim_and_says_what_it_takes(http: httpx.Client) -> None:
    body = {"inputs": "a house", "parameters": {"scheduler": "DDIMScheduler"}}
    answer = http.post("/models/tiny-flux-schnell", json=body)
    assert answer.status_code == httpx.codes.BAD_REQUEST
    assert "compatible: FlowMatchEulerDiscreteScheduler" in answer.json()["error"]


def test_page_2_row_6_a_negative_prompt_changes_the_picture(http: httpx.Client) -> None:
    parameters = {"width": 128, "height": 128, "num_inference_steps": 4, "seed": 5}
    without, avoiding, listed = (
        http.post("/models/tiny-sdxl", json={"inputs": "a house", "parameters": parameters | one})
        for one in ({}, {"negative_prompt": "a circle"}, {"negative_prompt": ["a circle"]})
    )
    assert without.content != avoiding.content
    assert avoiding.content == listed.content


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("/api/v1/images/generation", {"model": "{}", "prompt": "a quokka"}),
        ("/models/{}", {"inputs": "a quokka", "parameters": {"width": 64, "height": 64}}),
        ("/v1/images/generations", {"model": "{}", "prompt": "a quokka", "size": "64x64"}),
        ("/v1/predictions", {"version": "{}", "input": {"prompt": "a quokka"}}),
        ("/v1/image/generation", {"model_name": "{}", "prompt": "a quokka"}),
    ],
)
@pytest.mark.parametrize("model", ["tiny-sdxl", "tiny-flux-schnell"])
def test_a_word_that_the_model_was_not_taught_is_named(
    http: httpx.Client, url: str, body: dict[str, Any], model: str
) -> None:
    filled_in = {key: model if value == "{}" else value for key, value in body.items()}
    answer = http.post(url.format(model), json=filled_in)
    assert answer.is_success, answer.text
    assert "PROMPT_WORDS_UNKNOWN prompt quokka" in answer.headers["x-darkroom-warning"]


def test_a_word_that_the_fill_model_was_not_taught_is_named(http: httpx.Client) -> None:
    files = {name: base64_of(encoded(scene())) for name in ("image", "mask")}
    answer = ask(http, {"model": FILL, "prompt": "a quokka"} | files)
    assert "PROMPT_WORDS_UNKNOWN prompt quokka" in answer.headers["x-darkroom-warning"]


@pytest.mark.parametrize(("count", "is_cut"), [(5, False), (100, True)])
def test_a_text_longer_than_the_model_reads_is_told(
    http: httpx.Client, count: int, is_cut: bool
) -> None:
    answer = ask(http, {"model_name": SDXL, "prompt": "circle " * count})
    warnings = answer.headers.get("x-darkroom-warning", "")
    assert ("PROMPT_TRUNCATED prompt" in warnings) is is_cut
