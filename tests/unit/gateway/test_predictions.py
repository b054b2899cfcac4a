from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from darkroom_server.domain.errors import GenerationFailed
from darkroom_server.domain.jobs import JobImage, JobProgress, JobQueued, Stage
from darkroom_server.gateway import kept_images, predictions
from darkroom_server.gateway.image_calls import Begun
from darkroom_server.gateway.kept_images import KeptImages
from darkroom_server.gateway.predictions import Prediction, Predictions, PredictionStatus
from tests.integration.rpc.fake_engine import COMPLETED, image
from tests.unit.wire.test_events import ACCEPTED


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
                yield item
        finally:
            if left is not None:
                left.set()

    return Begun(ACCEPTED, told())


def stored(clock: Clock | None = None, *, max_bytes: int = 1 << 20) -> Predictions:
    now = clock or Clock()
    return Predictions(KeptImages(max_bytes=max_bytes, now=now), now, now)


def images_of(store: Predictions, made: Prediction) -> list[JobImage | None]:
    return [store.kept.find(one) for one in made.image_names]


async def ended(store: Predictions, begun: Begun) -> Prediction:
    made = store.start("m", {}, begun)
    await store.wait(made, timeout_s=5)
    return made


async def test_images_are_kept_with_their_prediction() -> None:
    store = stored()
    made = await ended(store, begun(image(0), image(1), COMPLETED))
    assert made.status is PredictionStatus.SUCCEEDED
    assert images_of(store, made) == [image(0), image(1)]
    assert store.find(made.id) is made
    assert store.find("another") is None


async def test_a_failure_is_told() -> None:
    made = await ended(stored(), begun(GenerationFailed("no picture")))
    assert (made.status, str(made.error)) == (PredictionStatus.FAILED, "no picture")


async def test_one_that_runs_can_be_stopped_and_lets_its_work_go() -> None:
    store, left = stored(), asyncio.Event()
    made = store.start("m", {}, begun(asyncio.Event(), left=left))
    await asyncio.sleep(0)
    await store.wait(made, timeout_s=0)
    assert made.status is PredictionStatus.PROCESSING
    await store.cancel(made)
    assert made.status is PredictionStatus.CANCELED
    assert left.is_set()


async def test_one_that_has_ended_stays_as_it_is() -> None:
    store = stored()
    made = await ended(store, begun(image(), COMPLETED))
    await store.cancel(made)
    assert made.status is PredictionStatus.SUCCEEDED


async def test_it_is_forgotten_after_its_time() -> None:
    clock = Clock()
    store = stored(clock)
    made = await ended(store, begun(image(), COMPLETED))
    clock.now_s += kept_images.KEPT_S
    assert store.find(made.id) is made
    clock.now_s += 1
    assert store.find(made.id) is None
    assert images_of(store, made) == [None]


@pytest.mark.parametrize(
    ("module", "limit"),
    [
        pytest.param(predictions, "MAX_PREDICTION_COUNT", id="predictions"),
        pytest.param(kept_images, "MAX_IMAGE_COUNT", id="images"),
        pytest.param(None, "", id="bytes"),
    ],
)
async def test_the_oldest_goes_when_there_is_too_much(
    monkeypatch: pytest.MonkeyPatch, module: Any, limit: str
) -> None:
    if module is not None:
        monkeypatch.setattr(module, limit, 2)
    store = stored(max_bytes=(2 if module is None else 3) * len(b"picture"))
    first, second, third = [await ended(store, begun(image(), COMPLETED)) for _ in range(3)]
    assert [store.find(one.id) for one in (first, second, third)] == [None, second, third]


async def test_images_are_let_go_when_one_ends_whoever_asks() -> None:
    store, may_end = stored(max_bytes=len(b"picture")), asyncio.Event()
    first = store.start("m", {}, begun(image(), COMPLETED))
    second = store.start("m", {}, begun(may_end, image(), COMPLETED))
    await store.wait(first, timeout_s=5)
    may_end.set()
    await store.wait(second, timeout_s=5)
    assert images_of(store, second) == [image()]
    assert list(store.kept._images) == list(second.image_names)


async def test_images_of_others_push_it_out_with_its_own() -> None:
    store = stored(max_bytes=len(b"picture"))
    made = await ended(store, begun(image(), COMPLETED))
    [name] = store.kept.keep([image(1)])
    # Rather than to give out an address that leads nowhere.
    assert store.find(made.id) is None
    assert store.kept.find(name) == image(1)


async def test_the_newest_images_stay_however_large_they_are() -> None:
    store = stored(max_bytes=1)
    made = await ended(store, begun(image(0), image(1), COMPLETED))
    assert images_of(store, made) == [image(0), image(1)]


async def test_how_it_stands_is_told_as_it_changes() -> None:
    store, may_run, may_end = stored(), asyncio.Event(), asyncio.Event()
    queued, runs = JobQueued(ahead_count=2), JobProgress(stage=Stage.DENOISE)
    made = store.start("m", {}, begun(queued, may_run, runs, may_end, image(), COMPLETED))
    told = store.standings(made, repeat_s=60)
    seen = []
    async for one in told:
        seen.append((one.has_ended, one.ahead_count))
        if one.ahead_count == 2:
            may_run.set()
        elif one.ahead_count is None:
            may_end.set()
    assert seen[-1] == (True, None)
    assert [one for one in seen if one[1] != 0 and not one[0]] == [(False, 2), (False, None)]


async def test_one_that_runs_is_never_forgotten() -> None:
    clock = Clock()
    store = stored(clock)
    made = store.start("m", {}, begun(asyncio.Event()))
    clock.now_s += 10 * kept_images.KEPT_S
    assert store.find(made.id) is made
    await store.cancel(made)
