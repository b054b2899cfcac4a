"""What a prediction keeps of its input and sends back; the routes under the provider's name."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from PIL import Image

from darkroom_server.requests.limits import MAX_PROMPT_BYTES
from tests.integration.rpc.fake_engine import FakeEngine
from tests.unit.gateway.http_calls import calling, posted
from tests.unit.image_decoding.pictures import encoded

WAIT = {"prefer": "wait"}
PICTURE = base64.b64encode(encoded(Image.new("RGB", (64, 64)))).decode()


async def predicted(content: str | None = None, **given: Any) -> Any:
    """The input that comes back."""
    sent: dict[str, Any] = (
        {"content": content} if content else {"json": {"input": {"prompt": "x", **given}}}
    )
    path = "/v1/models/sdxl/predictions"
    answer = await posted(FakeEngine(), path, headers=WAIT, **sent)
    assert answer.status_code == 201, answer.text
    return answer.json()["input"]


async def test_short_values_come_back() -> None:
    given = {"prompt": "x" * MAX_PROMPT_BYTES, "seed": 5, "guidance_scale": 2.5, "width": 256}
    assert await predicted(**given) == given


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"image_url": PICTURE, "mask_image": PICTURE}, id="images"),
        pytest.param({"reference_images": [PICTURE], "mask": PICTURE}, id="lists"),
        pytest.param({"image_size": {"width": 256, "height": 256}}, id="object"),
        pytest.param({"foo": "x" * 100_000}, id="unknown"),
    ],
)
async def test_nothing_else_does(given: dict[str, Any]) -> None:
    assert await predicted(**given) == {"prompt": "x"}


async def test_a_long_text_is_cut() -> None:
    found = await predicted(guidance_scale="2" + " " * 100_000)
    assert len(found["guidance_scale"].encode()) <= 256


async def test_what_is_no_unicode_does_no_harm() -> None:
    content = r'{"input": {"prompt": "x", "foo": "\ud800", "mask_polarity": null}}'
    assert await predicted(content) == {"prompt": "x"}


async def test_a_number_that_is_none_is_refused_before_anything_runs() -> None:
    engine = FakeEngine()
    content = b'{"input": {"prompt": "x", "foo": NaN}}'
    answer = await posted(engine, "/v1/models/sdxl/predictions", content=content)
    assert (answer.status_code, answer.json()["status"]) == (400, 400)
    assert "NaN" in answer.json()["detail"]
    assert engine.sessions == []


async def test_the_routes_are_there_under_the_provider_s_name_too() -> None:
    given = {"input": {"prompt": "x"}}
    models = "/replicate/v1/models"
    async with calling(FakeEngine()) as client:
        refused = await client.post(f"{models}/example/nobody/predictions", json=given)
        assert (refused.status_code, refused.json()["title"]) == (404, "Model not found")
        assert (await client.post(f"{models}/sdxl/predictions", json=given)).status_code == 201
        body = {"version": "sdxl", **given}
        made = await client.post("/replicate/v1/predictions", json=body, headers=WAIT)
        assert made.json()["status"] == "succeeded"
        found = await client.get(f"/replicate/v1/predictions/{made.json()['id']}")
        assert found.json() == made.json()


async def test_an_image_by_an_unknown_name_is_refused() -> None:
    given = {"input": {"prompt": "x", "image_prompt": f"data:image/png;base64,{PICTURE}"}}
    engine = FakeEngine()
    answer = await posted(engine, "/v1/models/sdxl/predictions", json=given)
    assert (answer.status_code, "image_prompt" in answer.json()["detail"]) == (400, True)
    assert engine.sessions == []


async def test_nobody_is_called_back_and_that_is_told() -> None:
    given = {"input": {"prompt": "x"}, "webhook": "https://a.example", "stream": False}
    answer = await posted(FakeEngine(), "/v1/models/sdxl/predictions", json=given)
    assert answer.headers["x-darkroom-warning"] == "PARAMETER_IGNORED webhook"
