from __future__ import annotations

import asyncio

import pytest

from darkroom_server.domain.errors import Cancelled, GenerationFailed, InvalidParameter, QueueFull
from darkroom_server.domain.jobs import BatchShare, JobCompleted, JobTimings
from darkroom_server.telemetry.inference_statistics import InferenceStatistics


def completed(batch_image_count: int | None) -> JobCompleted:
    timings = JobTimings(
        queue_s=0.75, load_s=0.25, encode_s=2.0, denoise_s=3.0, decode_s=3.5, compress_s=0.5
    )
    batch = batch_image_count and BatchShare(
        batch_id="7", batch_image_count=batch_image_count, request_image_count=2
    )
    return JobCompleted(image_count=2, timings=timings, batch=batch or None)


@pytest.mark.parametrize(
    ("batches", "executions"),
    [([None], 1), ([None, None], 2), ([6] * 3, 1), ([4], 1), ([4, 4, 2], 2)],
)
def test_a_success_is_counted_with_its_stages(batches: list[int | None], executions: int) -> None:
    statistics = InferenceStatistics()
    for batch_image_count in batches:
        with statistics.request("m", 1) as request:
            request.completed = completed(batch_image_count)
    own, count = statistics.of("m", 1), len(batches)
    assert (own.success.count, own.image_count) == (count, 2 * count)
    assert own.execution_count == executions
    found = [own.queue, own.encode, own.denoise, own.decode]
    assert [one.total_s for one in found] == [count * 1.0, count * 2.0, count * 3.0, count * 4.0]
    assert own.failed.count == 0
    assert statistics.of("m", 2).success.count == 0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (QueueFull("full", retry_after_s=1.0), "REJECTED"),
        (InvalidParameter("steps", "bad"), "REJECTED"),
        (GenerationFailed("not finite"), "BACKEND"),
        (Cancelled("gone"), "CANCELED"),
        (asyncio.CancelledError(), "CANCELED"),
        (GeneratorExit(), "CANCELED"),
        (RuntimeError("a bug"), "OTHER"),
    ],
)
def test_a_failure_is_counted_by_triton_s_reason(error: BaseException, reason: str) -> None:
    statistics = InferenceStatistics()
    with pytest.raises(type(error)), statistics.request("m", 1):
        raise error
    assert {name: one.count for name, one in statistics.of("m", 1).failures.items()} == {reason: 1}
    assert statistics.of("m", 1).success.count == 0


def test_what_was_only_checked_is_neither() -> None:
    statistics = InferenceStatistics()
    with statistics.request("m", 1):
        pass
    assert (statistics.of("m", 1).success.count, statistics.of("m", 1).failed.count) == (0, 0)


def test_a_success_whose_reader_leaves_after_it_stays_one() -> None:
    statistics = InferenceStatistics()
    request = statistics.request("m", 1)
    request.completed = completed(None)
    with pytest.raises(GeneratorExit), request:
        raise GeneratorExit
    assert (statistics.of("m", 1).success.count, statistics.of("m", 1).failed.count) == (1, 0)
