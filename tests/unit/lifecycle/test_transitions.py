"""The table of a version's life, all pairs of it."""

from __future__ import annotations

import itertools

import pytest

from darkroom_server.domain.model_status import VersionState
from darkroom_server.lifecycle.transitions import LifeEvent, next_state

S, E = VersionState, LifeEvent
ALLOWED = {
    S.UNLOADED: {E.LOAD: S.LOADING},
    S.LOADING: {
        E.SERVE: S.READY,
        E.LOSE: S.UNAVAILABLE,
        E.GIVE_UP: S.FAILED,
        E.LEAVE: S.UNLOADING,
    },
    S.READY: {E.LOSE: S.UNAVAILABLE, E.GIVE_UP: S.FAILED, E.LEAVE: S.UNLOADING},
    S.UNAVAILABLE: {E.SERVE: S.READY, E.GIVE_UP: S.FAILED, E.LEAVE: S.UNLOADING},
    S.FAILED: {E.LEAVE: S.UNLOADING},
    S.UNLOADING: {E.GONE: S.UNLOADED},
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(S, E)))
def test_every_pair_of_state_and_event(state: VersionState, event: LifeEvent) -> None:
    wanted = ALLOWED[state].get(event)
    if wanted is not None:
        assert next_state(state, event) is wanted
    else:
        with pytest.raises(ValueError, match=f"{state.value} cannot {event.value}"):
            next_state(state, event)
