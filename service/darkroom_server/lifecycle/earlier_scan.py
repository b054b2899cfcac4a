"""Keeps what an earlier scan knew of folders that cannot be read now. Pure."""

from __future__ import annotations

from dataclasses import replace

from darkroom_server.model_config.settings import chosen_versions
from darkroom_server.repository.scan import RepositoryModel, RepositoryScan


def keep_unreadable(before: RepositoryScan, now: RepositoryScan) -> RepositoryScan:
    """The present scan, completed by the earlier one where a folder is unreadable.

    A version that is being rewritten or was damaged stays as it was last read, and so does a model
    whose configuration was damaged: what serves continues to serve. Deleted models are dropped,
    unless the repository itself is unreadable.
    """
    if not now.is_readable:
        return replace(before, problems=now.problems, is_unfinished=now.is_unfinished)
    known = {model.info.name: model for model in before.models}
    models = [_with_known(model, known.get(model.info.name)) for model in now.models]
    models += [known[name] for name in now.unread if name in known]
    return replace(now, models=tuple(sorted(models, key=lambda model: model.info.name)))


def _with_known(model: RepositoryModel, before: RepositoryModel | None) -> RepositoryModel:
    if before is None:
        return model
    kept = [version for number in model.unread if (version := before.version(number)) is not None]
    if not kept:
        return model
    # A scan drops labels that point at versions it could not read.
    kept_numbers = {version.version for version in kept}
    known = before.info.version_labels.items()
    labels = {label: number for label, number in known if number in kept_numbers}
    info = replace(model.info, version_labels={**labels, **model.info.version_labels})
    versions = tuple(sorted((*model.versions, *kept), key=lambda one: one.version, reverse=True))
    numbers = [version.version for version in versions]
    return replace(
        model, info=info, versions=versions, serving=tuple(chosen_versions(model.policy, numbers))
    )
