from __future__ import annotations

import asyncio

import pytest

from darkroom_server.domain.errors import Cancelled, GenerationFailed, InvalidParameter, QueueFull
from darkroom_server.telemetry.inference_statistics import InferenceStatistics, Stages


def stages(share: float | None) -> Stages:
    return Stages(
        queue_s=1.0, encode_s=2.0, denoise_s=3.0, decode_s=4.0, image_count=2, batch_share=share
    )


@pytest.mark.parametrize(
    ("shares", "executions"),
    [([None], 1), ([None, None], 2), ([1 / 3] * 3, 1), ([0.5], 1), ([0.5, 0.5, 1.0], 2)],
)
def test_a_success_is_counted_with_its_stages(shares: list[float | None], executions: int) -> None:
    statistics = InferenceStatistics()
    for share in shares:
        with statistics.request("m", 1) as request:
            request.stages = stages(share)
    own, count = statistics.of("m", 1), len(shares)
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
    request.stages = stages(None)
    with pytest.raises(GeneratorExit), request:
        raise GeneratorExit
    assert (statistics.of("m", 1).success.count, statistics.of("m", 1).failed.count) == (1, 0)
