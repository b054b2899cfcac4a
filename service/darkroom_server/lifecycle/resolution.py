"""Which model and version a request means. Pure: depends on the scan only."""

from __future__ import annotations

import re

from darkroom_server.domain.errors import ModelNotFound, ModelUnavailable
from darkroom_server.domain.jobs import Task
from darkroom_server.domain.models import ModelRef
from darkroom_server.domain.problems import quoted
from darkroom_server.lifecycle.labels import label_for
from darkroom_server.repository.scan import RepositoryModel, RepositoryScan

_RESOURCE_PREFIX = "models/"
_HUB_ID = re.compile(r"(?!models/)[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)


def resolve_model(scan: RepositoryScan, name: str, task: Task | None = None) -> RepositoryModel:
    """The model that `name` means: folder, `models/` folder, hub id or alias.

    An empty name means the default model if one was named and it does `task`, else the first by
    name that does and serves. Raises ModelNotFound
    for a name that nothing has, ModelUnavailable for a model that is there but broken.
    """
    if not name:
        return _default_model(scan, task)
    folder = name.removeprefix(_RESOURCE_PREFIX)
    for model in scan.models:
        if model.info.name == folder:
            return model
    wanted = name.casefold()
    for model in scan.models:
        if model.info.hub_id.casefold() == wanted:
            return model
    for model in scan.models:
        if wanted in (alias.casefold() for alias in model.info.aliases):
            return model
    if folder in scan.broken:
        raise ModelUnavailable(
            folder, f"model {quoted(folder)} cannot be served: `darkroom check-repo` says why"
        )
    # A hub's id that nothing here has: the way to get it.
    hint = f"`darkroom pull {name}` fetches it; " if _HUB_ID.fullmatch(name) else ""
    raise ModelNotFound(name, f"no model {quoted(name)}; {hint}{_known(scan)}")


def resolve_version(model: RepositoryModel, version: str, request_id: str = "") -> int:
    """The number of the serving version that `version` means: a number, a label, or empty.

    Empty means a label that is given a share of such requests, by the request's id; for the others
    the label `stable` if it serves, else the highest serving version. Raises ModelNotFound, or
    ModelUnavailable for a model of which nothing is loaded.
    """
    name = model.info.name
    if not model.serving:
        raise ModelUnavailable(name, f"no version of model {quoted(name)} is loaded")
    served = ", ".join(map(str, model.serving))
    if not version:
        label = label_for(request_id, name, model.info.traffic_percent)
        given = model.info.version_labels.get(label) if label is not None else None
        return given or model.default_version or model.serving[0]
    number = model.info.version_labels.get(version)
    if number is None and version.isascii() and version.isdecimal():
        number = next((known for known in model.serving if str(known) == version), None)
    if number in model.serving:
        return number
    labels = [label for label, at in model.info.version_labels.items() if at in model.serving]
    known_labels = f"; labels: {', '.join(sorted(labels))}" if labels else ""
    raise ModelNotFound(
        name,
        f"model {quoted(name)} serves no version {quoted(version)} "
        f"(serving: {served}{known_labels})",
    )


def resolve(
    scan: RepositoryScan, ref: ModelRef, task: Task | None = None, request_id: str = ""
) -> tuple[RepositoryModel, int]:
    """The model and the serving version that a request means.

    Raises ModelNotFound, ModelUnavailable.
    """
    model = resolve_model(scan, ref.name, task)
    return model, resolve_version(model, ref.version, request_id)


def known_version(model: RepositoryModel, version: str) -> int:
    """The number of the version that is there, loaded or not; raises ModelNotFound."""
    number = model.info.version_labels.get(version)
    if number is None and version.isascii() and version.isdecimal():
        number = next((one.version for one in model.versions if str(one.version) == version), None)
    if number is None or model.version(number) is None:
        known = ", ".join(str(one.version) for one in model.versions)
        labels = "".join(f", {label}" for label in sorted(model.info.version_labels))
        name = model.info.name
        raise ModelNotFound(
            name, f"model {quoted(name)} has no version {quoted(version)} (known: {known}{labels})"
        )
    return number


def default_models(scan: RepositoryScan) -> dict[Task, str]:
    """By task, the model that requests get that name none; a task that none serves is left out."""
    found: dict[Task, str] = {}
    for task in Task:
        try:
            found[task] = _default_model(scan, task).info.name
        except (ModelNotFound, ModelUnavailable):
            continue
    return found


def _default_model(scan: RepositoryScan, task: Task | None) -> RepositoryModel:
    if scan.default_model:
        named = resolve_model(scan, scan.default_model)
        if task is None or task in named.info.tasks:
            return named
    for model in scan.models:
        if model.serving and (task is None or task in model.info.tasks):
            return model
    wanted = f" that does {task.value}" if task is not None else ""
    raise ModelNotFound("", f"no model{wanted} serves, and the request names none; {_known(scan)}")


def _known(scan: RepositoryScan) -> str:
    names = ", ".join(model.info.name for model in scan.models)
    known = f"known models: {names}" if names else "the repository has no model that serves"
    return f"{known}; being fetched: {', '.join(scan.fetching)}" if scan.fetching else known
