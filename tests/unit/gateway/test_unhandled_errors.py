"""A bug is answered as every other refusal is: counted, logged, readable by a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message

from darkroom_server.gateway.unhandled_errors import UnhandledErrors
from darkroom_server.telemetry.metrics import Metrics
from tests.integration.rpc.fake_engine import FakeEngine
from tests.unit.gateway.http_calls import calling

ORIGIN = "https://a.example"


@pytest.mark.parametrize(
    ("path", "body", "is_told"),
    [
        pytest.param(
            "/v1/images/generations",
            {"prompt": "x"},
            lambda told: told["error"]["code"] == "internal_error",
            id="openai",
        ),
        pytest.param(
            "/darkroom/v1/generate",
            {"prompt": "x"},
            lambda told: told["error"]["reason"] == "INTERNAL",
            id="events",
        ),
        pytest.param(
            "/v1/models/sdxl/predictions",
            {"input": {"prompt": "x"}},
            lambda told: told["status"] == 500,
            id="replicate",
        ),
        pytest.param("/", {"inputs": "x"}, lambda told: "logs" in told["error"], id="huggingface"),
    ],
)
async def test_a_bug_is_told_in_the_words_of_its_route(
    path: str, body: dict[str, Any], is_told: Callable[[Any], bool]
) -> None:
    engine, metrics = FakeEngine(), Metrics()
    engine.open_error = RuntimeError("a bug")
    headers = {"origin": ORIGIN, "x-request-id": "r-1"}
    with structlog.testing.capture_logs() as logged:
        async with calling(engine, metrics, (ORIGIN,)) as client:
            answer = await client.post(path, json=body, headers=headers)
    assert answer.status_code == 500
    assert is_told(answer.json())
    assert "a bug" not in answer.text
    assert answer.headers["x-request-id"] == "r-1"
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    events = [(one["event"], one.get("status")) for one in logged]
    assert events == [("unhandled error", None), ("http call", 500)]
    assert statuses(metrics) == ["500"]


def statuses(metrics: Metrics) -> list[str]:
    text, _ = metrics.render("")
    return [
        sample.labels["status"]
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == "darkroom_http_requests_total"
    ]


async def test_a_bug_after_the_answer_has_begun_is_left_to_the_server() -> None:
    sent: list[Message] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("a bug")

    async def receive() -> Message:
        raise AssertionError("nothing is asked for")

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(RuntimeError, match="a bug"):
        await UnhandledErrors(app)({"type": "http", "path": "/"}, receive, send)
    assert [one["type"] for one in sent] == ["http.response.start"]
