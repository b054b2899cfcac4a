"""The requests as JSON over HTTP, answered by server-sent events, on a real server."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from bench.serving import Server, connected, serving
from darkroom_client import Client

BODY_LIMIT_BYTES = 96 << 20


@dataclass(frozen=True, slots=True)
class Service:
    server: Server
    client: Client
    http: httpx.Client


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """After all tests it still serves."""
    repository = tmp_path_factory.mktemp("models")
    (repository / "m" / "1").mkdir(parents=True)
    (repository / "m" / "config.pbtxt").write_text("backend: BACKEND_FAKE\n")
    with serving(repository) as server, connected(server) as client:
        port = server.until("listening")["http_port"]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/darkroom/v1", timeout=300) as http:
            yield Service(server, client, http)
            assert [image.seed for image in client.generate("x", seed=3).images] == [3]
            assert "unhandled error" not in {entry.get("event") for entry in server.log}


def events_of(answer: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    """Name and data of every event."""
    assert answer.status_code == httpx.codes.OK, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in answer.text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_models_are_listed_with_their_parameters(service: Service) -> None:
    [model] = service.http.get("/models").json()["models"]
    assert model["name"] == "models/m"
    assert "seed" in json.dumps(model)


def test_the_image_is_the_one_that_grpc_gives(service: Service) -> None:
    body = {"prompt": "x", "seed": "7", "stepCount": 3, "widthPx": 64, "heightPx": 64}
    events = events_of(service.http.post("/generate", json=body))
    names = [name for name, _ in events]
    assert (names[0], names[-2:]) == ("accepted", ["image", "done"])
    content = base64.b64decode(events[-2][1]["image"]["content"])
    [image] = service.client.generate("x", seed=7, steps=3, width=64, height=64).images
    assert content == image.content


def test_a_fill_takes_base64_images(service: Service) -> None:
    def encoded(shade: int) -> str:
        buffer = io.BytesIO()
        Image.new("L", (64, 64), shade).save(buffer, "PNG")
        return base64.b64encode(buffer.getvalue()).decode()

    body = {
        "prompt": "x",
        "image": {"content": encoded(90)},
        "mask": {"content": encoded(0)},
        "preserveUnmasked": True,
    }
    events = dict(events_of(service.http.post("/fill", json=body)))
    made = Image.open(io.BytesIO(base64.b64decode(events["image"]["image"]["content"])))
    assert set(np.unique(np.asarray(made))) == {90}


@pytest.mark.parametrize(
    ("body", "status", "reason", "field"),
    [
        pytest.param(b"{", 400, "INVALID_PARAMETER", "request", id="no-json"),
        pytest.param(b"\xff\xfe", 400, "INVALID_PARAMETER", "request", id="no-text"),
        pytest.param(b'{"promt": "x"}', 400, "INVALID_PARAMETER", "request", id="misspelt"),
        pytest.param(b"[" * 200_000, 400, "INVALID_PARAMETER", "request", id="deep"),
        pytest.param(
            b'{"prompt": "x", "stepCount": 0}', 400, "INVALID_PARAMETER", "step_count", id="steps"
        ),
        pytest.param(
            b'{"prompt": "x", "model": "none"}', 404, "MODEL_NOT_FOUND", None, id="no-model"
        ),
    ],
)
def test_a_bad_request_is_answered_with_a_status_and_its_field(
    service: Service, body: bytes, status: int, reason: str, field: str | None
) -> None:
    answer = service.http.post("/generate", content=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["reason"], error.get("field")) == (status, reason, field)
    assert answer.headers["x-request-id"]


def test_a_body_beyond_the_limit_is_refused_whatever_it_says_of_its_length(
    service: Service,
) -> None:
    piece = b" " * (1 << 20)

    def pieces() -> Iterator[bytes]:
        for _ in range(BODY_LIMIT_BYTES // len(piece) + 1):
            yield piece

    answer = service.http.post("/generate", content=pieces())
    assert answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE
    assert str(BODY_LIMIT_BYTES) in answer.json()["error"]["message"]


def test_the_answer_tells_seed_and_model_before_the_events(service: Service) -> None:
    answer = service.http.post("/generate", json={"prompt": "x", "seed": "5"})
    assert answer.headers["x-darkroom-seed"] == "5"
    assert answer.headers["x-darkroom-model"] == "m/1"
    assert answer.headers["x-request-id"]
