"""What stays of an earlier look at a repository where the present one saw something unfinished."""

from __future__ import annotations

from dataclasses import replace

from darkroom_server.model_config.settings import chosen_versions
from darkroom_server.repository.scan import RepositoryModel, RepositoryScan


def carry_over(before: RepositoryScan, now: RepositoryScan) -> RepositoryScan:
    """The present look, with what the earlier one knew of folders that cannot be read now.

    A version that is being rewritten, or was spoilt, stays as it was seen last, and so does a model
    whose configuration was spoilt: what serves goes on serving. What is gone is gone, but while the
    repository cannot be looked at nothing is.
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
    # A look takes labels away that point at what it could not read.
    kept_numbers = {version.version for version in kept}
    known = before.info.version_labels.items()
    labels = {label: number for label, number in known if number in kept_numbers}
    info = replace(model.info, version_labels={**labels, **model.info.version_labels})
    versions = tuple(sorted((*model.versions, *kept), key=lambda one: one.version, reverse=True))
    numbers = [version.version for version in versions]
    return replace(
        model, info=info, versions=versions, serving=tuple(chosen_versions(model.policy, numbers))
    )
