from __future__ import annotations

import pytest

from darkroom_server.lifecycle.restarts import (
    FIRST_RESTART_DELAY_S,
    MAX_DEATHS,
    MAX_RESTART_DELAY_S,
    MAX_STARVED_LOADS,
    STABLE_S,
    Restarts,
)


def test_the_delay_doubles_up_to_its_limit() -> None:
    restarts = Restarts()
    delays = [restarts.not_started() for _ in range(20)]
    assert delays[:3] == [FIRST_RESTART_DELAY_S * factor for factor in (1, 2, 4)]
    assert delays[-1] == MAX_RESTART_DELAY_S
    restarts.started()
    assert restarts.not_started() == FIRST_RESTART_DELAY_S


def test_deaths_without_work_have_an_end() -> None:
    restarts = Restarts()
    delays = [restarts.died(0.0, was_at_work=False) for _ in range(MAX_DEATHS)]
    assert [delay is None for delay in delays] == [False] * (MAX_DEATHS - 1) + [True]


def test_deaths_at_work_have_none() -> None:
    restarts = Restarts()
    delays = [restarts.died(0.0, was_at_work=True) for _ in range(3 * MAX_DEATHS)]
    assert None not in delays


@pytest.mark.parametrize(
    ("served_s", "gone"),
    [pytest.param(STABLE_S - 1, True, id="short"), pytest.param(STABLE_S, False, id="long")],
)
def test_only_long_service_is_a_new_beginning(served_s: float, gone: bool) -> None:
    restarts = Restarts()
    for _ in range(MAX_DEATHS - 1):
        restarts.died(0.0, was_at_work=False)
    restarts.ready(100.0)
    assert (restarts.died(100.0 + served_s, was_at_work=False) is None) == gone


def test_service_counts_once() -> None:
    restarts = Restarts()
    restarts.ready(0.0)
    delays = [restarts.died(STABLE_S, was_at_work=False) for _ in range(MAX_DEATHS)]
    assert delays[-1] is None


def test_a_completed_job_is_a_new_beginning() -> None:
    restarts = Restarts()
    for _ in range(MAX_DEATHS - 1):
        restarts.died(0.0, was_at_work=False)
    restarts.job_completed()
    assert restarts.died(0.0, was_at_work=False) == FIRST_RESTART_DELAY_S


def test_loads_without_room_have_an_end_until_one_succeeds() -> None:
    restarts = Restarts()
    for _ in range(MAX_STARVED_LOADS):
        assert restarts.starved() is not None
    assert restarts.starved() is None
    restarts.ready(0.0)
    assert restarts.starved() == FIRST_RESTART_DELAY_S
