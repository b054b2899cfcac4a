"""What a version becomes by the states of its workers."""

from __future__ import annotations

import itertools

import pytest

from darkroom_server.domain.model_status import VersionState
from darkroom_server.lifecycle.transitions import TRANSITIONS, LifeEvent
from darkroom_server.lifecycle.worker_states import WorkerState, event_of_workers

S, W, E = VersionState, WorkerState, LifeEvent


@pytest.mark.parametrize(
    ("state", "workers", "event"),
    [
        pytest.param(S.LOADING, (W.READY, W.LOADING), E.SERVE, id="first-of-two-is-up"),
        pytest.param(S.READY, (W.READY, W.LOADING), None, id="second-of-two-is-up"),
        pytest.param(S.UNAVAILABLE, (W.READY,), E.SERVE, id="is-back"),
        pytest.param(S.LOADING, (W.RESTARTING, W.LOADING), E.LOSE, id="died-while-loading"),
        pytest.param(S.LOADING, (W.FAILED, W.LOADING), None, id="the-other-may-still-load"),
        pytest.param(S.READY, (W.RESTARTING, W.READY), None, id="the-other-serves"),
        pytest.param(S.READY, (W.RESTARTING, W.LOADING), E.LOSE, id="none-is-up"),
        pytest.param(S.READY, (W.FAILED, W.RESTARTING), E.LOSE, id="one-restarts"),
        pytest.param(S.UNAVAILABLE, (W.RESTARTING, W.FAILED), None, id="still-none"),
        pytest.param(S.LOADING, (W.FAILED,), E.GIVE_UP, id="cannot-be-loaded"),
        pytest.param(S.READY, (W.FAILED, W.FAILED), E.GIVE_UP, id="all-have-failed"),
        pytest.param(S.UNLOADING, (W.FAILED,), None, id="leaves-anyway"),
    ],
)
def test_what_follows_of_the_first_workers_change(
    state: VersionState, workers: tuple[WorkerState, ...], event: LifeEvent | None
) -> None:
    assert event_of_workers(state, workers, changed=workers[0]) is event


@pytest.mark.parametrize("state", [S.LOADING, S.READY, S.UNAVAILABLE, S.UNLOADING])
def test_nothing_happens_that_the_versions_life_does_not_allow(state: VersionState) -> None:
    for workers in itertools.product(W, repeat=3):
        for changed in set(workers):
            event = event_of_workers(state, workers, changed=changed)
            assert event is None or (state, event) in TRANSITIONS
