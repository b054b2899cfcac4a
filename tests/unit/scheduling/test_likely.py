"""The time within which a job is likely done: learnt from others, and kept by nine of ten."""

from __future__ import annotations

import random

import pytest

from darkroom_server.scheduling.likely import (
    FIRST_RATIOS,
    HIGHEST_LEVEL,
    KEPT_SHARE,
    LARGEST_RATIO,
    LOWEST_LEVEL,
    LikelyBounds,
)


def taught(*ratios: float, waits: bool = True) -> LikelyBounds:
    """Jobs that were told a second each, one after another, and took such times of it."""
    bounds, now_s = LikelyBounds(), 0.0
    for number, ratio in enumerate(ratios):
        bounds.give(str(number), 1.0, now_s, waits=waits, has_deadline=False)
        now_s += ratio
        bounds.ended(str(number), now_s)
    return bounds


def told(bounds: LikelyBounds, estimated_s: float = 1.0, *, waits: bool = True) -> float:
    return bounds.give("new", estimated_s, 1e6, waits=waits, has_deadline=False)


@pytest.mark.parametrize(
    ("ratios", "low", "high"),
    [
        pytest.param((), 1.5, max(FIRST_RATIOS), id="nothing known: wide"),
        pytest.param((1.0,) * 300, 1.0, 1.0, id="always right"),
        pytest.param((0.5,) * 300, 1.0, 1.0, id="always early: no less than the estimate"),
        pytest.param((3.0,) * 300, 3.0, 3.0, id="always three times as long"),
        pytest.param((1.0,) * 300 + (2.0,) * 300, 2.0, 2.0, id="the load has changed"),
        pytest.param((1e9,) * 300, LARGEST_RATIO, LARGEST_RATIO, id="an estimate of nothing"),
    ],
)
def test_the_bound_is_learnt(ratios: tuple[float, ...], low: float, high: float) -> None:
    assert low <= told(taught(*ratios)) <= high


def test_it_grows_with_the_estimate() -> None:
    assert told(taught(*(2.0,) * 300), 7.0) == pytest.approx(14.0)


def test_jobs_that_begin_at_once_are_told_apart_from_those_that_wait() -> None:
    bounds = taught(*(4.0,) * 300, waits=True)
    assert told(bounds, waits=False) == told(LikelyBounds(), waits=False)


def test_nor_do_those_with_a_deadline_say_anything_of_those_without() -> None:
    bounds = taught(*(4.0,) * 300)
    with_deadline_s = bounds.give("due", 1.0, 1e6, waits=True, has_deadline=True)
    assert with_deadline_s == told(LikelyBounds())


def test_short_jobs_and_long_ones_are_wrong_by_factors_of_their_own() -> None:
    """A length that is new begins as the nearest one is, and learns from its own from then on."""
    bounds = taught(*(3.0,) * 300)
    assert bounds.give("first", 60.0, 1e4, waits=True, has_deadline=False) == pytest.approx(180.0)
    bounds.ended("first", 1e4 + 60.0)
    for number in range(300):
        bounds.give(f"long {number}", 60.0, 2e4 + number, waits=True, has_deadline=False)
        bounds.ended(f"long {number}", 2e4 + number + 60.0)
    assert bounds.give("next", 60.0, 1e5, waits=True, has_deadline=False) == pytest.approx(60.0)
    assert told(bounds, 1.0) == pytest.approx(3.0)


@pytest.mark.parametrize("spread", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("drift", [1.0, 1.002, 0.998], ids=["steady", "slower", "faster"])
def test_nine_of_ten_keep_it(spread: float, drift: float) -> None:
    """Also while jobs take longer and longer, or less and less, of what they are told."""
    rng, bounds, now_s, kept, scale = random.Random(5), LikelyBounds(), 0.0, 0, 1.0
    for number in range(2000):
        bound_s = bounds.give(str(number), 1.0, now_s, waits=True, has_deadline=False)
        ratio = min(LARGEST_RATIO, scale * rng.lognormvariate(0.3, spread))
        now_s += ratio
        bounds.ended(str(number), now_s)
        kept += ratio <= bound_s
        scale = min(20.0, max(1.0, scale * drift))
    assert kept / 2000 == pytest.approx(KEPT_SHARE, abs=0.03)


def test_a_bound_is_broken_when_its_time_is_up_and_not_when_the_job_is_done() -> None:
    """All of a crowd are late, and none has ended: who comes now is told more."""
    bounds = taught(*(1.0, 1.0, 1.0, 5.0) * 50)
    before = bounds.give("before", 1.0, 300.0, waits=True, has_deadline=False)
    for number in range(20):
        bounds.give(f"late {number}", 1.0, 300.0, waits=True, has_deadline=False)
    assert bounds.give("after", 1.0, 400.0, waits=True, has_deadline=False) >= before
    levels = [kind.level for kind in bounds._kinds.values()]
    assert max(levels) == HIGHEST_LEVEL
    assert all(LOWEST_LEVEL <= level <= HIGHEST_LEVEL for level in levels)


def test_jobs_that_are_stopped_say_nothing() -> None:
    bounds = taught(*(1.0,) * 300)
    for number in range(300):
        bounds.give(f"stopped {number}", 1.0, 1e3, waits=True, has_deadline=False)
        bounds.forget(f"stopped {number}")
    bounds.ended("never told", 2e3)
    assert told(bounds) == 1.0


def test_while_a_job_waits_its_bound_comes_nearer_and_is_never_less_than_the_estimate() -> None:
    bounds = taught(*(2.0,) * 300)
    assert bounds.give("a", 10.0, 1000.0, waits=True, has_deadline=False) == pytest.approx(20.0)
    assert bounds.left_s("a", 7.0, 1005.0) == pytest.approx(15.0)
    assert bounds.left_s("a", 9.0, 1015.0) == 9.0
    assert bounds.left_s("unknown", 9.0, 1015.0) == 9.0


def test_it_holds_no_more_than_what_is_at_work() -> None:
    bounds = taught(*(1.0,) * 5000)
    assert len(bounds._due) <= 1
    bounds = taught(*(0.001,) * 5000)
    assert not bounds._bounds
    assert not bounds._broken
    assert len(bounds._due) <= 257
    assert all(len(kind.recent) == len(kind.ordered) <= 257 for kind in bounds._kinds.values())
