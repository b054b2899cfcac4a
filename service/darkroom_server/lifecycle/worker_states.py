"""The states of a version's workers, and what follows of them for the version. Pure."""

from __future__ import annotations

import enum
from collections.abc import Collection

from darkroom_server.domain.model_status import VersionState
from darkroom_server.lifecycle.transitions import LifeEvent


class WorkerState(enum.Enum):
    """State of one worker of a version."""

    LOADING = "loading"
    READY = "ready"
    #: Its process has ended and another one is being started.
    RESTARTING = "restarting"
    #: It will not be started again.
    FAILED = "failed"


def event_of_workers(
    state: VersionState, workers: Collection[WorkerState], changed: WorkerState
) -> LifeEvent | None:
    """What happens to a version when one of its workers is in another state; None: nothing.

    `workers` are the states of all, `changed` the new state of the one that changed. A version is
    READY as long as one worker is, FAILED once all are, and UNAVAILABLE while the only hope is a
    worker that restarts. One that is UNLOADING ends by its leases and not by its workers.
    """
    if state is VersionState.UNLOADING:
        return None
    if WorkerState.READY in workers:
        return None if state is VersionState.READY else LifeEvent.SERVE
    if all(one is WorkerState.FAILED for one in workers):
        return LifeEvent.GIVE_UP
    is_lost = state is VersionState.LOADING and changed is WorkerState.RESTARTING
    return LifeEvent.LOSE if state is VersionState.READY or is_lost else None
