"""OpenAI's routes: edits need an image, values must exist, images come by address or as base64."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image

from darkroom_server.domain.jobs import Task
from tests.integration.rpc.fake_engine import FakeEngine, FakeSession, image
from tests.unit.example_models import SDXL, status
from tests.unit.gateway.http_calls import client_of
from tests.unit.gateway.test_server import app_of
from tests.unit.image_decoding.pictures import encoded

EDITS, GENERATIONS = "/v1/images/edits", "/v1/images/generations"
FILE = encoded(Image.new("RGB", (64, 64)))
BASE64 = base64.b64encode(FILE).decode()
URL = f"data:image/png;base64,{BASE64}"
SEVERAL = "images; models/sdxl takes none"


NAMES = ("sdxl", "dall-e-2", "dall-e-3", "gpt-image-1")


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """Routes to an engine that is in its state, for to build them takes a while."""
    engine = FakeEngine()
    able = replace(SDXL, tasks=frozenset(Task))
    engine.models = tuple(status(replace(able, name=name)) for name in NAMES)
    found = app_of(engine)
    found.state.engine = engine
    return found


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    app.state.engine.sessions.clear()
    async with client_of(app) as found:
        yield found


@pytest.fixture
def sessions(app: FastAPI) -> list[FakeSession]:
    """What the engine was asked for by the test."""
    found: list[FakeSession] = app.state.engine.sessions
    return found


def part(name: str, content: bytes = FILE) -> tuple[str, tuple[str, bytes, str]]:
    return name, ("a.png", content, "image/png")


async def edited(client: httpx.AsyncClient, *parts: Any, **fields: str) -> httpx.Response:
    """The answer to a form; httpx writes one only where there is a file."""
    files = [*parts, ("n", (None, "1"))]
    return await client.post(EDITS, data={"prompt": "x", **fields}, files=files)


def refused(answer: httpx.Response, param: str, text: str = "") -> bool:
    error = answer.json().get("error", {})
    return answer.status_code == 400 and error["param"] == param and text in error["message"]


@pytest.mark.parametrize("name", ["image", "image[]", "image[0]", "image[7]", "images", "images[]"])
async def test_an_image_of_a_form_is_one_by_any_of_its_names(
    client: httpx.AsyncClient, sessions: list[FakeSession], name: str
) -> None:
    answer = await edited(client, part(name))
    assert answer.status_code == 200, answer.text
    assert [one.task for one in sessions] == [Task.IMAGE_TO_IMAGE]


@pytest.mark.parametrize(
    ("parts", "param", "text"),
    [
        pytest.param([], "image", "the image to change", id="none"),
        pytest.param([part("mask")], "image", "the image to change", id="mask-alone"),
        pytest.param([part("photo")], "photo", "`image`", id="another-name"),
        pytest.param([part("image"), part("image_2")], "image", SEVERAL, id="one-more-name"),
        pytest.param([part("image", b"")], "image", "", id="empty"),
        pytest.param([part("image", b"GIF89a")], "image", "PNG", id="another-format"),
        pytest.param([part("image[]"), part("image[]")], "image", SEVERAL, id="two"),
        pytest.param([part("image[0]"), part("image[1]")], "image", SEVERAL, id="two-counted"),
        pytest.param([part("image"), part("mask"), part("mask")], "mask", "one is", id="two-masks"),
    ],
)
async def test_an_edit_without_an_image_is_none(
    client: httpx.AsyncClient, sessions: list[FakeSession], parts: list[Any], param: str, text: str
) -> None:
    answer = await edited(client, *parts)
    assert refused(answer, param, text), answer.text
    assert not [one for one in sessions if one.spec is not None]


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"image": BASE64}, id="base64"),
        pytest.param({"image": {"url": URL}}, id="url"),
        pytest.param({"image": {"image_url": {"url": URL}}}, id="chat"),
        pytest.param({"images": [{"image_url": URL}]}, id="list"),
        pytest.param(
            {"images": [{"type": "image_url", "image_url": {"url": URL}}]}, id="chat-list"
        ),
        pytest.param({"image": URL, "image_urls": [URL]}, id="two-names"),
    ],
)
@pytest.mark.parametrize("path", [EDITS, GENERATIONS])
async def test_an_image_of_json_is_one_in_any_shape(
    client: httpx.AsyncClient, sessions: list[FakeSession], path: str, given: dict[str, Any]
) -> None:
    answer = await client.post(path, json={"prompt": "x", **given})
    assert answer.status_code == 200, answer.text
    assert [one.task for one in sessions] == [Task.IMAGE_TO_IMAGE]


@pytest.mark.parametrize(
    ("given", "param", "text"),
    [
        pytest.param({"images": [BASE64, URL]}, "images", SEVERAL, id="two"),
        pytest.param({"images": [{"url": URL}] * 3}, "images", SEVERAL, id="three"),
        pytest.param({"image": {"file_id": "file-1"}}, "image", "base64", id="file"),
        pytest.param({"image": 5}, "image", "base64", id="number"),
        pytest.param({"image": ""}, "image", "", id="empty"),
        pytest.param({"control_image": URL}, "control_image", "`image`", id="another-name"),
        pytest.param({"photo": {"url": URL}}, "photo", "`image`", id="another-name-url"),
        pytest.param({"photos": [BASE64]}, "photos", "`image`", id="another-name-list"),
    ],
)
@pytest.mark.parametrize("path", [EDITS, GENERATIONS])
async def test_what_is_no_image_is_never_drawn_without(
    client: httpx.AsyncClient,
    sessions: list[FakeSession],
    path: str,
    given: dict[str, Any],
    param: str,
    text: str,
) -> None:
    answer = await client.post(path, json={"prompt": "x", **given})
    assert refused(answer, param, text), answer.text
    assert not [one for one in sessions if one.spec is not None]


async def test_an_edit_by_json_needs_an_image_too(client: httpx.AsyncClient) -> None:
    for given in ({}, {"images": []}, {"image": None}):
        assert refused(await client.post(EDITS, json={"prompt": "x", **given}), "image")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("quality", value) for value in ("ultra", "", 5, ["hd"], {"a": 1})),
        *(("style", value) for value in ("realistic", True)),
        *(("background", value) for value in ("white", "none")),
        *(("moderation", value) for value in ("high", "off")),
        *(("input_fidelity", value) for value in ("medium", 1.5)),
        *(("response_format", value) for value in ("png", "", 1, ["url"])),
        *(("output_format", value) for value in ("gif", "svg", 7)),
        *(("output_compression", value) for value in (101, -1, "much", 2.5)),
        *(("size", value) for value in ("big", "1024", 512, "64x64x64")),
        *(("partial_images", value) for value in (4, -1, "many")),
        *(("stream", value) for value in ("yes", 1)),
        *(("user", value) for value in (7, ["me"])),
        ("safety_identifier", 7),
        *(("n", value) for value in (0, "many", 1.5)),
    ],
)
@pytest.mark.parametrize("path", [EDITS, GENERATIONS])
async def test_a_value_that_does_not_exist_is_refused(
    client: httpx.AsyncClient, sessions: list[FakeSession], path: str, name: str, value: Any
) -> None:
    body = {"prompt": "x", "image": BASE64, name: value}
    answer = await client.post(path, json=body)
    assert refused(answer, name), answer.text
    assert sessions == []


async def test_a_value_of_a_form_is_looked_at_as_well(client: httpx.AsyncClient) -> None:
    assert refused(await edited(client, part("image"), quality="ultra"), "quality")


@pytest.mark.parametrize(
    ("name", "value", "warned"),
    [
        *(("quality", v, True) for v in ("low", "high", "hd", "standard", "HD")),
        *(("style", v, True) for v in ("vivid", "natural")),
        ("background", "transparent", True),
        *(("background", v, False) for v in ("auto", "opaque")),
        ("moderation", "low", True),
        ("moderation", "auto", False),
        ("quality", "auto", False),
        ("input_fidelity", "high", True),
        ("output_compression", 50, True),
        ("partial_images", 2, True),
        ("partial_images", 0, False),
        *(("response_format", v, False) for v in ("b64_json", "base64", "url")),
        ("user", "me", False),
        ("stream", False, False),
        ("strange", 1, True),
    ],
)
async def test_one_that_changes_nothing_is_told(
    client: httpx.AsyncClient, name: str, value: Any, warned: bool
) -> None:
    answer = await client.post(GENERATIONS, json={"prompt": "x", name: value})
    assert answer.status_code == 200, answer.text
    expected = f"PARAMETER_IGNORED {name}" if warned else ""
    assert answer.headers.get("x-darkroom-warning", "") == expected


@pytest.mark.parametrize(
    ("model", "asked", "form"),
    [
        ("dall-e-2", None, "url"),
        ("dall-e-3", None, "url"),
        ("dall-e-3", "b64_json", "b64_json"),
        ("gpt-image-1", None, "b64_json"),
        ("gpt-image-1", "url", "url"),
        ("sdxl", None, "b64_json"),
        ("sdxl", "URL", "url"),
        ("sdxl", "base64", "b64_json"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/images/generations", "/together/v1/images/generations"])
async def test_images_come_as_that_model_s_do_or_as_asked(
    client: httpx.AsyncClient, path: str, model: str, asked: str | None, form: str
) -> None:
    body = {"prompt": "x", "model": model, "response_format": asked}
    [made] = (await client.post(path, json=body)).json()["data"]
    assert made.keys() == {"index", "type", form}
    assert made["type"] == form
    if form == "url":
        assert made["url"].startswith("http://test/files/")
        file = await client.get(made["url"])
        assert (file.content, file.headers["content-type"]) == (image().content, "image/png")
    else:
        assert base64.b64decode(made["b64_json"]) == image().content


async def test_an_edit_comes_by_address_too(client: httpx.AsyncClient) -> None:
    made = await edited(client, part("image"), response_format="url")
    assert made.status_code == 200, made.text
    assert (await client.get(made.json()["data"][0]["url"])).content == image().content


async def test_a_stream_has_no_addresses(
    client: httpx.AsyncClient, sessions: list[FakeSession]
) -> None:
    body = {"prompt": "x", "stream": True, "response_format": "url"}
    assert refused(await client.post(GENERATIONS, json=body), "response_format")
    assert sessions == []
