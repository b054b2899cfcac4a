"""fal's routes: at once, by the queue, as a stream; errors as its clients read them."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image

from darkroom_server.domain.errors import GenerationFailed
from darkroom_server.domain.jobs import JobPreview, JobQueued, Task
from tests.integration.rpc.fake_engine import COMPLETED, FOREVER, FakeEngine, image
from tests.unit.example_models import SDXL, status
from tests.unit.gateway.http_calls import client_of
from tests.unit.gateway.test_server import app_of
from tests.unit.image_decoding.pictures import encoded

URL = "data:image/png;base64," + base64.b64encode(encoded(Image.new("RGB", (64, 64)))).decode()
NAMES = ("sdxl", "fal-ai/hidream-i1-full", "example/flux/dev", "fal-ai/editor/edit")


@pytest.fixture(scope="module")
def app() -> FastAPI:
    engine = FakeEngine()
    able = replace(SDXL, tasks=frozenset(Task))
    engine.models = tuple(status(replace(able, name=name)) for name in NAMES)
    found = app_of(engine)
    found.state.engine = engine
    return found


@pytest.fixture
def engine(app: FastAPI) -> FakeEngine:
    found: FakeEngine = app.state.engine
    found.script = [image(), COMPLETED]
    found.sessions.clear()
    return found


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as found:
        yield found


def events(text: str) -> list[Any]:
    return [json.loads(one[6:]) for one in text.splitlines() if one.startswith("data: ")]


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("hidream-i1-full", "fal-ai/hidream-i1-full"),
        ("fal-ai/hidream-i1-full", "fal-ai/hidream-i1-full"),
        ("sdxl", "sdxl"),
        ("fal-ai/sdxl", "sdxl"),
        ("example/flux/dev", "example/flux/dev"),
    ],
)
@pytest.mark.parametrize("size", [{"width": 512, "height": 512}, "square"])
async def test_a_model_is_named_by_the_address_with_or_without_the_prefix(
    client: httpx.AsyncClient, engine: FakeEngine, path: str, model: str, size: Any
) -> None:
    body = {"prompt": "a cat", "image_size": size, "num_images": 1, "seed": 7}
    made = await client.post(f"/fal-ai/{path}", json=body, headers={"authorization": "Key x:y"})
    assert made.status_code == 200, made.text
    [session] = engine.sessions
    assert session.ref.name == model
    assert session.spec is not None
    assert (session.spec.width_px, session.spec.height_px) == (512, 512)
    found = made.json()
    assert (found["seed"], found["prompt"]) == (7, "a cat")
    assert found["has_nsfw_concepts"] == [False]
    [one] = found["images"]
    assert (one["width"], one["height"], one["content_type"]) == (256, 256, "image/png")
    assert (await client.get(one["url"])).content == image().content


@pytest.mark.usefixtures("engine")
async def test_images_come_in_the_answer_when_asked_for(client: httpx.AsyncClient) -> None:
    body = {"prompt": "x", "sync_mode": True}
    wanted = "data:image/png;base64," + base64.b64encode(image().content).decode()
    made = (await client.post("/fal-ai/sdxl", json=body)).json()
    assert made["images"][0]["url"] == wanted
    queued = (await client.post("/queue/fal-ai/sdxl", json=body)).json()
    await client.get(f"{queued['status_url']}/stream")
    assert (await client.get(queued["response_url"])).json()["images"][0]["url"] == wanted


@pytest.mark.parametrize(
    "given",
    [
        {"image_url": URL},
        {"image_urls": [URL]},
        {"image_url": URL, "image_urls": [URL]},
        {"image_url": URL, "mask_url": URL},
    ],
)
async def test_an_image_is_changed_by_fal_s_names(
    client: httpx.AsyncClient, engine: FakeEngine, given: dict[str, Any]
) -> None:
    made = await client.post("/fal-ai/sdxl/image-to-image", json={"prompt": "x", **given})
    assert made.status_code == 200, made.text
    [session] = engine.sessions
    assert session.task is (Task.FILL if "mask_url" in given else Task.IMAGE_TO_IMAGE)


@pytest.mark.parametrize("path", ["sdxl/image-to-image", "sdxl/inpainting", "fal-ai/editor/edit"])
@pytest.mark.parametrize("prefix", ["/fal-ai", "/queue/fal-ai"])
async def test_an_address_that_changes_images_needs_one(
    client: httpx.AsyncClient, engine: FakeEngine, prefix: str, path: str
) -> None:
    made = await client.post(f"{prefix}/{path}", json={"prompt": "x"})
    assert made.status_code == 400
    assert made.json()["detail"][0]["loc"] == ["body", "image"]
    assert engine.sessions == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("acceleration", "warp"),
        ("safety_tolerance", "7"),
        ("enable_safety_checker", "maybe"),
        ("sync_mode", "maybe"),
        ("image_size", "huge"),
        ("output_format", "gif"),
    ],
)
async def test_a_value_that_does_not_exist_is_refused(
    client: httpx.AsyncClient, name: str, value: Any
) -> None:
    made = await client.post("/fal-ai/sdxl", json={"prompt": "x", name: value})
    assert made.status_code == 400
    [detail] = made.json()["detail"]
    assert (detail["loc"], detail["type"]) == (["body", name], "invalid_value")
    assert made.json()["message"].startswith(name)


async def test_one_that_changes_nothing_is_told(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    idle = {"acceleration": "none", "enable_safety_checker": False}
    asked = {"acceleration": "high", "enable_safety_checker": True, "safety_tolerance": 2}
    made = await client.post("/fal-ai/sdxl", json={"prompt": "x", **idle})
    assert "x-darkroom-warning" not in made.headers
    path = "/queue/fal-ai/sdxl?fal_webhook=https://a.example"
    made = await client.post(path, json={"prompt": "x", **asked})
    told = made.headers["x-darkroom-warning"]
    assert told == ", ".join(f"PARAMETER_IGNORED {one}" for one in (*asked, "fal_webhook"))
    assert len(engine.sessions) == 2


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("/queue/fal-ai/sdxl", {}),
        ("/fal-ai/sdxl?_subdomain=queue", {}),
        ("/fal-ai/sdxl", {"host": "queue.example"}),
    ],
)
async def test_a_request_is_handed_in_looked_after_and_fetched(
    client: httpx.AsyncClient, engine: FakeEngine, url: str, headers: dict[str, str]
) -> None:
    engine.script = [JobQueued(ahead_count=3), FOREVER]
    made = await client.post(url, json={"prompt": "x"}, headers=headers)
    found = made.json()
    assert (made.status_code, found["status"]) == (200, "IN_QUEUE")
    assert made.headers["x-fal-request-id"] == found["request_id"]
    own = f"/fal-ai/sdxl/requests/{found['request_id']}"
    names = ("response_url", "status_url", "cancel_url")
    assert [httpx.URL(found[name]).path for name in names] == [
        own,
        f"{own}/status",
        f"{own}/cancel",
    ]
    await engine.sessions[0].waiting.wait()
    # The model in the address is not looked at: clients leave out its end.
    for path in (own, f"/queue{own}", f"/fal-ai/fal-ai/other/requests/{found['request_id']}"):
        look = await client.get(f"{path}/status", params={"logs": "1"})
        assert (look.status_code, look.json()["queue_position"]) == (202, 3)
        assert look.json()["logs"] == []
    early = await client.get(own)
    assert (early.status_code, "in progress" in early.json()["message"]) == (400, True)
    stopped = await client.put(f"{own}/cancel")
    assert (stopped.status_code, stopped.json()["status"]) == (202, "CANCELLATION_REQUESTED")
    assert engine.sessions[0].left.is_set()
    again = await client.put(f"{own}/cancel")
    assert (again.status_code, again.json()["status"]) == (400, "ALREADY_COMPLETED")
    look = await client.get(f"{own}/status")
    assert (look.status_code, look.json()["status"]) == (200, "COMPLETED")
    assert look.json()["error_type"] == "cancelled"
    assert (await client.get(own)).json()["error_type"] == "cancelled"


async def test_a_request_is_followed_to_its_end(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    made = (await client.post("/queue/fal-ai/sdxl", json={"prompt": "x"})).json()
    answer = await client.get(f"{made['status_url']}/stream")
    assert answer.headers["content-type"].startswith("text/event-stream")
    last = events(answer.text)[-1]
    assert (last["status"], last["metrics"]["inference_time"]) == ("COMPLETED", 1.5)
    found = (await client.get(made["response_url"])).json()
    assert (found["seed"], found["timings"]) == (7, {"inference": 1.5})
    assert (await client.get(found["images"][0]["url"])).content == image().content
    assert len(engine.sessions) == 1


async def test_a_failure_is_told_by_the_standing_and_by_the_result(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = [GenerationFailed("no picture")]
    made = (await client.post("/queue/fal-ai/sdxl", json={"prompt": "x"})).json()
    last = events((await client.get(f"{made['status_url']}/stream")).text)[-1]
    assert (last["status"], last["error"]) == ("COMPLETED", "no picture")
    result = await client.get(made["response_url"])
    assert (result.status_code, result.json()["detail"]) == (500, "no picture")


async def test_a_stream_has_what_is_done_so_far_and_then_the_answer(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    preview = JobPreview(
        image_index=0, completed_step_count=2, content=b"so far", width_px=32, height_px=32
    )
    engine.script = [preview, image(), COMPLETED]
    answer = await client.post("/fal-ai/sdxl/stream", json={"prompt": "x"})
    first, last = events(answer.text)
    assert (
        first["images"][0]["url"]
        == "data:image/jpeg;base64," + base64.b64encode(b"so far").decode()
    )
    assert (await client.get(last["images"][0]["url"])).content == image().content
    engine.script = [GenerationFailed("no picture")]
    answer = await client.post("/fal-ai/sdxl/stream", json={"prompt": "x"})
    assert events(answer.text)[-1]["message"] == "no picture"


async def test_what_is_not_known_is_a_404(client: httpx.AsyncClient) -> None:
    for path in ("", "/status", "/status/stream"):
        answer = await client.get(f"/fal-ai/sdxl/requests/1{path}")
        assert (answer.status_code, "message" in answer.json()) == (404, True)
    assert (await client.put("/fal-ai/sdxl/requests/1/cancel")).status_code == 404
    answer = await client.post("/fal-ai/nobody", json={"prompt": "x"})
    assert (answer.status_code, answer.json()["error_type"]) == (404, "model_not_found")
    # Nor is a prediction of another dialect, whose answers look otherwise.
    made = await client.post("/v1/models/sdxl/predictions", json={"input": {"prompt": "x"}})
    answer = await client.get(f"/fal-ai/sdxl/requests/{made.json()['id']}")
    assert answer.status_code == 404
