"""The life of a loaded version: one table of what may follow what."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from darkroom_server.domain.model_status import VersionState


class LifeEvent(enum.Enum):
    """What happens to a version."""

    #: It is to be loaded.
    LOAD = "load"
    #: A worker is up.
    SERVE = "serve"
    #: No worker is up any more; one is being started.
    LOSE = "lose"
    #: It cannot be loaded, or its workers died too often.
    GIVE_UP = "give up"
    #: It is to leave once its requests have ended.
    LEAVE = "leave"
    #: Its workers have ended.
    GONE = "gone"


_S, _E = VersionState, LifeEvent

#: The state that follows, for every pair that may happen.
TRANSITIONS: Mapping[tuple[VersionState, LifeEvent], VersionState] = {
    (_S.UNLOADED, _E.LOAD): _S.LOADING,
    (_S.LOADING, _E.SERVE): _S.READY,
    (_S.UNAVAILABLE, _E.SERVE): _S.READY,
    (_S.LOADING, _E.LOSE): _S.UNAVAILABLE,
    (_S.READY, _E.LOSE): _S.UNAVAILABLE,
    (_S.LOADING, _E.GIVE_UP): _S.FAILED,
    (_S.READY, _E.GIVE_UP): _S.FAILED,
    (_S.UNAVAILABLE, _E.GIVE_UP): _S.FAILED,
    (_S.LOADING, _E.LEAVE): _S.UNLOADING,
    (_S.READY, _E.LEAVE): _S.UNLOADING,
    (_S.UNAVAILABLE, _E.LEAVE): _S.UNLOADING,
    (_S.FAILED, _E.LEAVE): _S.UNLOADING,
    (_S.UNLOADING, _E.GONE): _S.UNLOADED,
}


def next_state(state: VersionState, event: LifeEvent) -> VersionState:
    """The state after the event; raises ValueError for a pair that must not happen."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ValueError(f"a version that is {state.value} cannot {event.value}") from None
