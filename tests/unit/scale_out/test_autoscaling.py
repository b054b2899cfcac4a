"""Replicas by the device time that waits."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from darkroom_server.scale_out.autoscaling import DeviceSeconds, wanted_replica_count


@pytest.mark.parametrize(
    ("work_s", "is_used", "count"),
    [
        pytest.param(0.0, False, 0, id="unused"),
        pytest.param(0.0, True, 1, id="used-and-nothing-known-of-it"),
        pytest.param(10.0, True, 1, id="as-much-as-one-has"),
        pytest.param(10.5, True, 2, id="more"),
        pytest.param(95.0, True, 10, id="much-more"),
    ],
)
def test_one_for_every_so_many_seconds(work_s: float, is_used: bool, count: int) -> None:
    assert wanted_replica_count(work_s, 10.0, is_used=is_used) == count


def test_what_replicas_told_is_added_up() -> None:
    told = {"device_s": {"a": 12.0, "b": 13.0}}
    context = SimpleNamespace(aggregated_metrics=told, total_num_requests=3)
    assert DeviceSeconds(10.0)(context) == (3, {})
    context = SimpleNamespace(aggregated_metrics=None, total_num_requests=0)
    assert DeviceSeconds(10.0)(context) == (0, {})
