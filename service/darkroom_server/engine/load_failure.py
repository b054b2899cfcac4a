"""Why a load has not ended in a model that serves."""

from __future__ import annotations

from collections.abc import Iterable

from darkroom_server.domain.errors import LoadCancelled, ModelUnavailable
from darkroom_server.domain.model_status import VersionState
from darkroom_server.engine.supervisor import Supervisor


def load_failure(loading: Iterable[Supervisor]) -> Exception:
    """What the load of some versions, none of which is on its way any more, failed of."""
    name = "The version"
    for one in loading:
        name = f"{one.version.model.name}/{one.version.version}"
        if one.failure is not None:
            return one.failure
        if one.state is VersionState.FAILED:
            message = one.status().message
            return ModelUnavailable(
                one.version.model.name, f"{name} could not be loaded: {message}"
            )
    return LoadCancelled(f"{name} was unloaded while it was being loaded.")
