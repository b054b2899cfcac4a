"""Addresses of images that are kept; how long they are is in test_predictions.py."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from darkroom_server.access.gate import Gate, GateOptions
from darkroom_server.domain.jobs import JobImage
from darkroom_server.gateway.connect import Servicers
from darkroom_server.gateway.kept_images import KEPT_S, KeptImages
from darkroom_server.gateway.server import HttpOptions, build_app
from darkroom_server.image_decoding.images import ImageLimits
from darkroom_server.rpc.server import servicers
from darkroom_server.telemetry.metrics import Metrics
from tests.integration.rpc.fake_engine import FakeEngine, image
from tests.unit.gateway.http_calls import client_of


def app(public_url: str | None) -> FastAPI:
    engine: object = FakeEngine()
    found = Servicers(*servicers(engine, ImageLimits()))  # type: ignore[arg-type]
    options = HttpOptions("", 0, 8001, public_url=public_url)
    return build_app(engine, Metrics(), Gate(GateOptions()), found, options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("public_url", "base"),
    [(None, "http://test/"), ("https://a.example/images/", "https://a.example/images/")],
)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/images/generations", {"prompt": "x", "response_format": "url"}),
        ("/v1/models/sdxl/predictions", {"input": {"prompt": "x"}}),
        ("/fal-ai/sdxl", {"prompt": "x"}),
        ("/queue/fal-ai/sdxl", {"prompt": "x"}),
    ],
)
async def test_every_address_begins_as_callers_reach_the_server(
    public_url: str | None, base: str, path: str, body: dict[str, object]
) -> None:
    async with client_of(app(public_url)) as client:
        answer = await client.post(path, json=body, headers={"prefer": "wait"})
    found = [text for text in answer.text.split('"') if text.startswith("http")]
    assert found
    assert all(text.startswith(base) for text in found)


def test_names_cannot_be_guessed_and_say_the_format() -> None:
    kept = KeptImages()
    names = kept.keep([image(0), image(1)])
    assert len(set(names)) == 2
    assert all(len(name) == len(".png") + 32 and name.endswith(".png") for name in names)
    assert [kept.find(name) for name in names] == [image(0), image(1)]
    assert kept.keep([]) == ()


def test_images_of_one_request_leave_together_after_an_hour() -> None:
    now_s = [0.0]
    kept = KeptImages(now=lambda: now_s[0])

    def found(names: tuple[str, ...]) -> list[JobImage | None]:
        return [kept.find(name) for name in names]

    early = kept.keep([image(0), image(1)])
    now_s[0] = KEPT_S / 2
    late = kept.keep([image(0)])
    now_s[0] = KEPT_S
    assert found(early) == [image(0), image(1)]
    now_s[0] = KEPT_S + 1
    assert (found(early), found(late)) == ([None, None], [image(0)])
