"""Goals of tier V by one seed and fewer requests: a change that loses one fails here.

The rivals are those that the sweep of `make bench` chose, which has the figures proper. All of
it is played on a virtual clock, so nothing hangs on the machine.
"""

from __future__ import annotations

import pytest

from bench.baselines import Policy, b2, b3
from bench.goals import TAIL_LOAD
from bench.scoring import Maker, Setting, ours, percentile, whole
from bench.virtual import SATURATED, UNSATURATED, Device
from bench.workloads import W_MIX

SEED, REQUEST_COUNT, HALVINGS = 1, 400, 6


@pytest.mark.parametrize(
    ("device", "rival", "least"),
    [
        pytest.param(UNSATURATED, b3(4, 0.0, lost_last=True), 2.5, id="G1"),
        pytest.param(SATURATED, b3(1, 0.0, lost_last=True), 1.3, id="G2"),
    ],
)
def test_goodput_over_shortest_first(device: Device, rival: Policy, least: float) -> None:
    setting = Setting(workload=W_MIX, device=device, request_count=REQUEST_COUNT)
    mine, theirs = (
        setting.sustained_goodput_per_s(maker, SEED, halvings=HALVINGS)
        for maker in (ours, whole(rival))
    )
    assert mine / theirs >= least


@pytest.mark.parametrize(
    ("device", "rival"),
    [
        pytest.param(UNSATURATED, b2(4, 0.0), id="unsaturated"),
        pytest.param(SATURATED, b2(2, 0.0), id="saturated"),
    ],
)
def test_g3_short_requests_do_not_wait_for_long_ones(device: Device, rival: Policy) -> None:
    setting = Setting(workload=W_MIX, device=device, request_count=REQUEST_COUNT, told=False)
    rate_per_s = TAIL_LOAD * setting.one_by_one_per_s(SEED)

    def tail_s(maker: Maker) -> float:
        return percentile(setting.run(maker, rate_per_s, SEED).latencies_s(4), 0.99)

    assert tail_s(ours) / tail_s(whole(rival)) <= 0.20
