"""Whether a model or a version of it serves, by any of the names that requests may use."""

from __future__ import annotations

from darkroom_server.domain.errors import ModelNotFound, ModelUnavailable
from darkroom_server.domain.model_status import VersionState
from darkroom_server.engine.engine import Engine

_MODEL_PREFIX, _VERSION_PART = "models/", "/versions/"


def is_ready(engine: Engine, name: str, version: str = "") -> bool | None:
    """Whether requests to a model, or to a version by its number or label, are served now.

    `name` is the model's own, a hub id or an alias, with or without `models/` before it. None:
    there is no such model or version.
    """
    name = name.removeprefix(_MODEL_PREFIX)
    if not name:
        return None
    try:
        status = engine.get_model(name)
    except ModelNotFound:
        return None
    except ModelUnavailable:
        return False
    if not version:
        return status.is_ready() and not engine.is_leaving()
    for one in status.versions:
        if version == str(one.version) or version in one.labels:
            return one.state is VersionState.READY and not engine.is_leaving()
    return None


def is_resource_ready(engine: Engine, resource: str) -> bool | None:
    """As `is_ready`, of one text: a name, or `models/<name>/versions/<version>`."""
    name, _, version = resource.rpartition(_VERSION_PART)
    return is_ready(engine, name, version) if name else is_ready(engine, resource)
