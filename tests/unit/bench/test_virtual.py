"""The virtual device and what runs on it, on traces that can be worked out by hand."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from bench.baselines import B0, B1, Policy, WholeRequests, b2, b3
from bench.goals import Contest
from bench.measured import Estimate, Measured
from bench.ours import SharedSteps
from bench.scoring import Objective, Setting, ours, percentile, whole
from bench.virtual import SATURATED, UNSATURATED, Device, System, play
from bench.workloads import W_CANCEL, W_MIX, W_SIZE, WORKLOADS, Arrival, Workload, at_rate

#: A step takes a second however many rows it has; decoding takes nothing.
FLAT = Device(
    name="flat",
    row_s=1.0,
    decode_unit_s=0.0,
    gains=tuple((rows, float(rows)) for rows in range(1, 17)),
    size_px=512,
)


def _arrival(index: int, at_s: float, step_count: int, *, guidance_scale: float = 1.0) -> Arrival:
    return Arrival(
        index=index,
        at_s=at_s,
        step_count=step_count,
        guidance_scale=guidance_scale,
        size_px=512,
        scheduler="EulerDiscreteScheduler",
        prompt=index,
    )


def _finished_s(
    system: System, arrivals: list[Arrival], deadlines_s: list[float | None] | None = None
) -> dict[int, float]:
    told = deadlines_s or [None] * len(arrivals)
    return play(system, arrivals, FLAT, told).finished_s


@pytest.mark.parametrize(
    ("policy", "finished_s"),
    [
        pytest.param(B0, {0: 50, 1: 54, 2: 58}, id="plain-loop-in-order"),
        pytest.param(B1, {0: 50, 1: 54, 2: 58}, id="fifo-in-order"),
        pytest.param(b2(2, 0.0), {0: 50, 1: 54, 2: 54}, id="equal-ones-together"),
        pytest.param(b2(2, 3.0), {0: 58, 1: 6, 2: 6}, id="a-full-batch-overtakes-a-waiting-one"),
        pytest.param(b2(4, 60.0), {0: 110, 1: 114, 2: 114}, id="a-batch-waits-to-fill"),
    ],
)
def test_whole_requests(policy: Policy, finished_s: dict[int, float]) -> None:
    arrivals = [_arrival(0, 0, 50), _arrival(1, 1, 4), _arrival(2, 2, 4)]
    if policy.max_delay_s == 3.0:
        finished_s = {0: 56, 1: 6, 2: 6}
    assert _finished_s(WholeRequests(policy, FLAT), arrivals) == finished_s


def test_shortest_first_of_those_that_wait() -> None:
    arrivals = [_arrival(0, 0, 10), _arrival(1, 1, 50), _arrival(2, 2, 4)]
    system = WholeRequests(b3(1, 0.0, lost_last=False), FLAT)
    assert _finished_s(system, arrivals) == {0: 10, 1: 64, 2: 14}


def test_the_hopeless_go_behind_the_rest() -> None:
    arrivals = [_arrival(0, 0, 10), _arrival(1, 0.5, 4), _arrival(2, 0.5, 20)]
    system = WholeRequests(b3(1, 0.0, lost_last=True), FLAT)
    assert _finished_s(system, arrivals, [None, 12.0, 40.0]) == {0: 10, 2: 30}


@pytest.mark.parametrize("other", ["step_count", "guidance_scale", "scheduler", "size_px"])
def test_unequal_parameters_share_no_pipeline_call(other: str) -> None:
    changed = {"step_count": 5, "guidance_scale": 1.5, "scheduler": "other", "size_px": 256}[other]
    first = _arrival(0, 0, 4, guidance_scale=2.0)
    second = dataclasses.replace(first, index=1, **{other: changed})
    finished_s = _finished_s(WholeRequests(b2(2, 0.0), FLAT), [first, second])
    assert finished_s[1] > finished_s[0] == 4


def test_a_late_request_leaves_the_queue_of_all_but_the_plain_loop() -> None:
    arrivals = [_arrival(0, 0, 10), _arrival(1, 0, 4)]
    told = [None, 5.0]
    assert _finished_s(WholeRequests(B1, FLAT), arrivals, told) == {0: 10}
    assert _finished_s(WholeRequests(B0, FLAT), arrivals, told) == {0: 10, 1: 14}


def test_ours_joins_the_next_step() -> None:
    arrivals = [_arrival(0, 0, 10), _arrival(1, 2.5, 4)]
    assert _finished_s(SharedSteps(FLAT), arrivals) == {0: 10, 1: 7}


def test_ours_drops_what_is_late_and_what_is_cancelled() -> None:
    arrivals = [
        _arrival(0, 0, 10),
        _arrival(1, 0, 10),
        dataclasses.replace(_arrival(2, 0, 10), patience=0.45),
    ]
    trace = play(SharedSteps(FLAT), arrivals, FLAT, [None, 3.0, None])
    assert trace.finished_s == {0: 10}
    # Hung up at 4.5 s, in the middle of a step of one second.
    assert trace.cancel_turns == [0.5]


@pytest.mark.parametrize("device", [UNSATURATED, SATURATED], ids=lambda device: device.name)
def test_more_rows_never_make_a_step_shorter_nor_a_row_dearer(device: Device) -> None:
    steps_s = [device.step_s(512, rows) for rows in range(1, 33)]
    assert steps_s == sorted(steps_s)
    assert all(
        later / (rows + 1) <= earlier / rows + 1e-12
        for rows, (earlier, later) in enumerate(itertools.pairwise(steps_s), start=1)
    )


def test_devices_gain_what_they_are_named_for() -> None:
    gains = [
        8 * device.step_s(512, 1) / device.step_s(512, 8) for device in (UNSATURATED, SATURATED)
    ]
    assert gains == pytest.approx([3.0, 1.1])


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_a_seed_gives_the_same_requests_and_another_others(workload: Workload) -> None:
    assert workload.arrivals(3, 50) == workload.arrivals(3, 50)
    assert workload.arrivals(3, 50) != workload.arrivals(4, 50)


def test_workloads_have_the_shares_they_promise() -> None:
    arrivals = W_MIX.arrivals(1, 4000)
    shares = [sum(one.step_count == n for one in arrivals) / 4000 for n in (4, 20, 50)]
    assert shares == pytest.approx([0.4, 0.4, 0.2], abs=0.03)
    assert sum(one.rows for one in arrivals) / 4000 == pytest.approx(1.75, abs=0.03)
    assert arrivals[-1].at_s / 4000 == pytest.approx(1, abs=0.06)
    assert len({one.size_px for one in W_SIZE.arrivals(1, 100)}) == 4
    cancelled = sum(one.patience is not None for one in W_CANCEL.arrivals(1, 4000))
    assert cancelled / 4000 == pytest.approx(0.15, abs=0.03)


def test_a_rate_scales_the_times_and_nothing_else() -> None:
    slow, fast = W_MIX.arrivals(1, 20), at_rate(W_MIX.arrivals(1, 20), 4.0)
    assert [dataclasses.replace(one, at_s=one.at_s * 4) for one in fast] == slow


@pytest.mark.parametrize("maker", [ours, whole(b2(4, 0.1))], ids=["ours", "B2"])
def test_a_run_is_the_same_every_time(maker) -> None:  # type: ignore[no-untyped-def]
    setting = Setting(workload=W_MIX, device=UNSATURATED, request_count=60)
    first, second = (setting.run(maker, 3.0, 1).trace for _ in range(2))
    assert first == second


def test_the_sustained_rate_keeps_the_objective() -> None:
    setting = Setting(workload=W_MIX, device=UNSATURATED, request_count=60)
    run = setting.sustained(whole(B1), 1, halvings=5)
    assert run is not None
    assert run.keeps(setting.objective)
    assert run.goodput_per_s() > 0


def test_where_no_load_is_sustained_there_is_no_goodput() -> None:
    sooner_than_possible = Objective("never", 0.9, factor=0.5)
    setting = Setting(
        workload=W_MIX, device=UNSATURATED, request_count=60, objective=sooner_than_possible
    )
    assert setting.sustained(whole(B1), 1) is None
    assert setting.sustained_goodput_per_s(whole(B1), 1) == 0


def test_no_ratio_to_a_system_that_sustains_no_load() -> None:
    setting = Setting(workload=W_MIX, device=UNSATURATED, request_count=60)
    run = setting.sustained(whole(B1), 1, halvings=2)
    found = Contest({}, {"ours": [run, run], "B1": [run, run], "B3": [run, None]})
    ratio = found.ratio("ours", "B1")
    assert ratio is not None
    assert ratio.median == 1
    assert found.ratio("ours", "B3") is None


def test_a_percentile_is_a_value_of_the_list() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]


def test_an_estimate_lies_within_its_interval() -> None:
    found = Estimate.of([1.0, 2.0, 3.0, 4.0, 10.0])
    assert found.low <= found.median == 3.0 <= found.high
    assert (found.low, found.high) != (found.median, found.median)


@pytest.mark.parametrize(
    ("at_least", "median", "met"),
    [(True, 2.0, True), (True, 1.9, False), (False, 2.0, True), (False, 2.1, False)],
)
def test_a_goal_is_met_at_its_limit(at_least: bool, median: float, met: bool) -> None:
    estimate = Estimate(median, median, median, 1)
    one = Measured(goal="G", tier="V", metric="m", target=2.0, at_least=at_least, estimate=estimate)
    assert one.met is met
    assert dataclasses.replace(one, estimate=None).met is False
    assert dataclasses.replace(one, target=None).met is None
