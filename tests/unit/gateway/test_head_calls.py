"""HEAD on every address that GET is served at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from darkroom_server.telemetry.metric_list import HTTP_REQUESTS
from darkroom_server.telemetry.metrics import Metrics
from tests.integration.rpc.fake_engine import FOREVER, FakeEngine, image
from tests.unit.gateway.http_calls import client_of
from tests.unit.gateway.test_server import app_of

#: Of metrics and calls; all others are equal.
_CHANGING = {"x-request-id", "content-length", "date"}


def get_paths(app: FastAPI) -> Iterator[str]:
    """Every address that the document names, its parts filled in, and those it leaves out."""
    values = {"model": "sdxl", "name": "sdxl", "app": "sdxl", "prediction_id": "1", "version": "1"}
    for path, methods in app.openapi()["paths"].items():
        if "get" in methods:
            yield path.format(**values, request_id="1")
    yield from ("/", "/playground/server.json", "/openapi.json")
    yield from ("/v2", "/v2/models/sdxl", "/v2/models/sdxl/config", "/v2/models/stats")


async def test_it_is_answered_as_get_is_without_the_body() -> None:
    app = app_of(FakeEngine())
    paths = list(get_paths(app))
    assert len(paths) > 20
    async with client_of(app) as client:
        for path in [*paths, "/nothing/here", "/v1/images/generations"]:
            head, get = await client.head(path), await client.get(path)
            assert (head.status_code, head.content) == (get.status_code, b""), path
            told = {name: value for name, value in head.headers.items() if name not in _CHANGING}
            assert told == {n: v for n, v in get.headers.items() if n not in _CHANGING}, path
            if path != "/metrics":
                assert head.headers["content-length"] == get.headers["content-length"], path


async def test_a_stream_ends_with_its_headers() -> None:
    engine = FakeEngine()
    engine.script = [FOREVER]
    async with client_of(app_of(engine)) as client:
        made = (await client.post("/queue/fal-ai/sdxl", json={"prompt": "x"})).json()
        answer = await client.head(f"{made['status_url']}/stream")
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert (await client.put(made["cancel_url"])).status_code == 202


async def test_it_is_counted_as_what_it_is() -> None:
    metrics = Metrics()
    async with client_of(app_of(FakeEngine(), metrics)) as client:
        await client.head("/v1/models/sdxl")
    text = metrics.render("")[0].decode()
    [line] = [one for one in text.splitlines() if one.startswith(f"{HTTP_REQUESTS.name}")]
    assert 'method="HEAD"' in line
    assert 'route="/v1/models/{model:path}"' in line


@pytest.mark.parametrize("path", ["/v2/health/ready", "/v1/models"])
async def test_it_needs_no_more_than_get(path: str) -> None:
    engine = FakeEngine()
    engine.script = [image()]
    async with client_of(app_of(engine)) as client:
        assert (await client.head(path)).status_code == (await client.get(path)).status_code
