from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from darkroom.v1.image_service_pb2 import GenerationEvent
from darkroom_server.domain.errors import GenerationFailed
from darkroom_server.domain.jobs import JobImage
from darkroom_server.gateway import predictions
from darkroom_server.gateway.making import Begun
from darkroom_server.gateway.predictions import Prediction, Predictions, PredictionStatus
from tests.integration.rpc.fake_engine import COMPLETED, image


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def begun(*script: Any, left: asyncio.Event | None = None) -> Begun:
    async def told() -> AsyncGenerator[Any, None]:
        try:
            for item in script:
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, asyncio.Event):
                    await item.wait()
                yield item, []
        finally:
            if left is not None:
                left.set()

    return Begun(GenerationEvent.Accepted(), told())


def images_of(store: Predictions, made: Prediction) -> list[JobImage | None]:
    return [store.image(one) for one in made.image_ids]


async def ended(store: Predictions, begun: Begun) -> Prediction:
    made = store.start("m", {}, begun)
    await store.wait(made, timeout_s=5)
    return made


async def test_images_are_kept_with_their_prediction() -> None:
    store = Predictions(Clock())
    made = await ended(store, begun(image(0), image(1), COMPLETED))
    assert made.status is PredictionStatus.SUCCEEDED
    assert images_of(store, made) == [image(0), image(1)]
    assert store.find(made.id) is made
    assert store.find("another") is None


async def test_a_failure_is_told() -> None:
    made = await ended(Predictions(Clock()), begun(GenerationFailed("no picture")))
    assert (made.status, made.error) == (PredictionStatus.FAILED, "no picture")


async def test_one_that_runs_can_be_stopped_and_lets_its_work_go() -> None:
    store, left = Predictions(Clock()), asyncio.Event()
    made = store.start("m", {}, begun(asyncio.Event(), left=left))
    await asyncio.sleep(0)
    await store.wait(made, timeout_s=0)
    assert made.status is PredictionStatus.PROCESSING
    await store.cancel(made)
    assert made.status is PredictionStatus.CANCELED
    assert left.is_set()


async def test_one_that_has_ended_stays_as_it_is() -> None:
    store = Predictions(Clock())
    made = await ended(store, begun(image(), COMPLETED))
    await store.cancel(made)
    assert made.status is PredictionStatus.SUCCEEDED


async def test_it_is_forgotten_after_its_time() -> None:
    clock = Clock()
    store = Predictions(clock)
    made = await ended(store, begun(image(), COMPLETED))
    clock.now_s += predictions.KEPT_S
    assert store.find(made.id) is made
    clock.now_s += 1
    assert store.find(made.id) is None
    assert images_of(store, made) == [None]


@pytest.mark.parametrize(
    ("limit", "value"), [("MAX_PREDICTION_COUNT", 2), ("MAX_IMAGE_BYTES", 2 * len(b"picture"))]
)
async def test_the_oldest_goes_when_there_is_too_much(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(predictions, limit, value)
    store = Predictions(Clock())
    first, second, third = [await ended(store, begun(image(), COMPLETED)) for _ in range(3)]
    assert [store.find(one.id) for one in (first, second, third)] == [None, second, third]


async def test_images_are_let_go_when_one_ends_whoever_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(predictions, "MAX_IMAGE_BYTES", len(b"picture"))
    store, may_end = Predictions(Clock()), asyncio.Event()
    first = store.start("m", {}, begun(image(), COMPLETED))
    second = store.start("m", {}, begun(may_end, image(), COMPLETED))
    await store.wait(first, timeout_s=5)
    may_end.set()
    await store.wait(second, timeout_s=5)
    assert list(store._images) == second.image_ids


async def test_one_that_runs_is_never_forgotten() -> None:
    clock = Clock()
    store = Predictions(clock)
    made = store.start("m", {}, begun(asyncio.Event()))
    clock.now_s += 10 * predictions.KEPT_S
    assert store.find(made.id) is made
    await store.cancel(made)
