"""The stock `openai` client against a real server."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
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

SMALL: dict[str, Any] = {"size": "64x64", "extra_body": {"seed": 5, "num_inference_steps": 3}}


@pytest.fixture
def client(service: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="x", max_retries=0) as found:
        yield found


def cut_out() -> bytes:
    """A picture of one grey, the right half of it transparent."""
    picture = Image.new("RGBA", (64, 64), (90, 90, 90, 255))
    picture.paste((0, 0, 0, 0), (32, 0, 64, 64))
    return encoded(picture)


def test_a_picture_is_made(client: openai.OpenAI) -> None:
    made = client.images.generate(model=SDXL, prompt="x", n=2, **SMALL)
    assert made.created > 0
    assert made.usage is not None
    assert made.usage.total_tokens == 0
    assert made.data is not None
    assert [opened(one.b64_json or "").size for one in made.data] == [(64, 64)] * 2
    assert (made.output_format, made.size) == ("png", "64x64")


def test_what_only_openai_knows_is_taken(client: openai.OpenAI) -> None:
    made = client.images.generate(
        model=SDXL,
        prompt="x",
        quality="hd",
        style="vivid",
        user="me",
        moderation="low",
        background="auto",
        response_format="b64_json",
        output_format="jpeg",
        output_compression=0,
        **SMALL,
    )
    assert made.data is not None
    assert opened(made.data[0].b64_json or "").format == "JPEG"


def test_a_picture_comes_by_address_when_asked_for(service: Service, client: openai.OpenAI) -> None:
    made = client.images.generate(model=SDXL, prompt="x", response_format="url", **SMALL)
    assert made.data is not None
    assert made.data[0].b64_json is None
    assert made.data[0].url is not None
    assert made.data[0].url.startswith(f"{service.url}/files/")
    assert opened(httpx.get(made.data[0].url).content).size == (64, 64)


def test_headers_are_those_of_every_dialect(client: openai.OpenAI) -> None:
    raw = client.images.with_raw_response.generate(model=SDXL, prompt="x", **SMALL)
    assert raw.headers["x-darkroom-seed"] == "5"
    assert raw.headers["x-darkroom-model"] == "sdxl/1"
    assert "total;dur=" in raw.headers["server-timing"]
    assert raw.headers["x-request-id"]


@pytest.mark.parametrize("partial_count", [0, 1, 3])
def test_partial_images_come_before_the_whole_one(
    client: openai.OpenAI, partial_count: int
) -> None:
    stream = client.images.generate(
        model=SDXL,
        prompt="x",
        size="64x64",
        stream=True,
        partial_images=partial_count,
        extra_body={"seed": 5, "num_inference_steps": 8},
    )
    *partial, last = list(stream)
    assert len(partial) <= partial_count
    assert bool(partial) is bool(partial_count)
    for index, event in enumerate(partial):
        assert event.type == "image_generation.partial_image"
        assert event.partial_image_index == index
        assert opened(event.b64_json).format == "JPEG"
    assert last.type == "image_generation.completed"
    assert last.usage.total_tokens == 0
    whole = client.images.generate(
        model=SDXL, prompt="x", size="64x64", extra_body={"seed": 5, "num_inference_steps": 8}
    )
    assert whole.data is not None
    assert last.b64_json == whole.data[0].b64_json


def test_a_failure_before_admission_is_a_status_for_streams_too(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.images.generate(model="nobody", prompt="x", stream=True)
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(model=SDXL, prompt="x", stream=True, partial_images=4)
    assert caught.value.param == "partial_images"


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(lambda content: content, id="bytes"),
        pytest.param(io.BytesIO, id="file"),
        pytest.param(lambda content: ("in.png", content, "image/png"), id="named"),
        pytest.param(lambda content: [content], id="list"),
    ],
)
@pytest.mark.parametrize("has_mask", [True, False], ids=["mask", "own-alpha"])
def test_what_is_transparent_is_repainted(
    client: openai.OpenAI, image: Any, has_mask: bool
) -> None:
    given = (
        {"image": image(grey(90)), "mask": cut_out()} if has_mask else {"image": image(cut_out())}
    )
    made = client.images.edit(
        model=FILL,
        prompt="x",
        size="64x64",
        extra_body={"seed": 5, "num_inference_steps": 3, "preserve_unmasked": True},
        **given,
    )
    assert made.data is not None
    pixels = np.asarray(opened(made.data[0].b64_json or ""))
    assert set(np.unique(pixels[:, :32])) == {90}
    assert 90 not in pixels[:, 32:]


def test_a_mask_of_colours_is_taken_when_asked_for(client: openai.OpenAI) -> None:
    extra = {"mask_polarity": "white", "preserve_unmasked": True, "num_inference_steps": 3}
    made = client.images.edit(
        model=FILL, prompt="x", image=grey(90), mask=grey(0), size="64x64", extra_body=extra
    )
    assert made.data is not None
    assert set(np.unique(np.asarray(opened(made.data[0].b64_json or "")))) == {90}


def test_a_mask_without_transparency_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(model=FILL, prompt="x", image=grey(90), mask=grey(255))
    assert (caught.value.param, caught.value.code) == ("mask", "invalid_image")


def test_an_edit_needs_an_image(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(model=SDXL, prompt="x", image=openai.omit, **SMALL)  # type: ignore[arg-type]
    assert caught.value.param == "image"


def test_an_image_alone_is_changed_as_a_whole_where_the_model_does_that(
    client: openai.OpenAI,
) -> None:
    made = client.images.edit(model=SDXL, prompt="x", image=grey(90), **SMALL)
    assert made.data is not None
    assert opened(made.data[0].b64_json or "").size == (64, 64)


def test_an_edit_is_streamed(client: openai.OpenAI) -> None:
    stream = client.images.edit(
        model=FILL, prompt="x", image=grey(90), mask=cut_out(), stream=True, **SMALL
    )
    assert [event.type for event in stream] == ["image_edit.completed"]


def test_two_images_are_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(model=SDXL, prompt="x", image=[grey(1), grey(2)])
    assert caught.value.param == "image"


@pytest.mark.parametrize(
    ("values", "kind", "param"),
    [
        pytest.param({"model": "nobody"}, openai.NotFoundError, None, id="model"),
        pytest.param({"prompt": ""}, openai.BadRequestError, "prompt", id="prompt"),
        pytest.param({"n": 0}, openai.BadRequestError, "n", id="count"),
        pytest.param({"size": "big"}, openai.BadRequestError, "size", id="size"),
        pytest.param(
            {"response_format": "png"}, openai.BadRequestError, "response_format", id="form"
        ),
    ],
)
def test_errors_are_the_client_s_own(
    client: openai.OpenAI, values: dict[str, Any], kind: type[openai.APIStatusError], param: str
) -> None:
    with pytest.raises(kind) as caught:
        client.images.generate(**({"model": SDXL, "prompt": "x"} | values))
    assert caught.value.param == param
    assert caught.value.request_id


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    assert {one.id for one in client.models.list()} >= {"sdxl", "schnell", "fill"}
    assert client.models.retrieve(SCHNELL).id == SCHNELL
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


def test_a_form_without_a_length_is_taken(service: Service) -> None:
    boundary = "b"
    parts = [("prompt", b"x"), ("model", FILL.encode()), ("size", b"64x64")]
    files = [("image", grey(90)), ("mask", cut_out())]

    def pieces() -> Iterator[bytes]:
        for name, value in parts:
            yield f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
            yield value + b"\r\n"
        for name, value in files:
            disposition = f'form-data; name="{name}"; filename="upload"'
            yield f"--{boundary}\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
            yield value + b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    answer = service.http.post("/v1/images/edits", content=pieces(), headers=headers)
    assert answer.status_code == httpx.codes.OK, answer.text


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=b", "text/plain"]
)
@pytest.mark.parametrize("body", [b"", b"--b\r\n\r\n", b"\xff" * 100], ids=[*"012"])
def test_a_form_that_is_none_is_refused(
    service: Service,
    content_type: str,
    body: bytes,
) -> None:
    headers = {"content-type": content_type}
    answer = service.http.post("/v1/images/edits", content=body, headers=headers)
    is_text = content_type == "text/plain"
    refusal = httpx.codes.UNSUPPORTED_MEDIA_TYPE if is_text else httpx.codes.BAD_REQUEST
    assert answer.status_code == refusal


def test_image_urls_of_the_json_form(service: Service) -> None:
    body = {"model": SDXL, "prompt": "x", "size": "64x64", "response_format": "base64"}
    url = f"data:image/png;base64,{base64_of(grey(90))}"
    for image in (
        {"image_url": url},
        {"reference_images": [url]},
        {"images": [{"image_url": url}]},
    ):
        answer = service.http.post("/v1/images/generations", json=body | image)
        assert answer.status_code == httpx.codes.OK, answer.text
