"""Versions loaded on request (`--model-control explicit`). Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from darkroom_server.domain.models import VersionInfo
from darkroom_server.repository.scan import RepositoryModel, RepositoryScan


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedModel:
    """A model as it was at the last load request for it, and the versions that were requested.

    Versions are kept as they were when they were requested: later changes or deletions of their
    files have no effect.
    """

    model: RepositoryModel
    versions: tuple[VersionInfo, ...] = ()

    @property
    def numbers(self) -> tuple[int, ...]:
        """The versions, highest first."""
        return tuple(version.version for version in self.versions)

    def without(self, numbers: Collection[int]) -> RequestedModel:
        """The same model after some versions were unloaded."""
        kept = tuple(version for version in self.versions if version.version not in numbers)
        return replace(self, versions=kept)


def request_versions(
    before: RequestedModel | None, model: RepositoryModel, numbers: Sequence[int], *, in_place: bool
) -> RequestedModel:
    """Adds versions as they are in `model`; `in_place`: instead of all others, not beside them."""
    kept = () if before is None or in_place else before.without(numbers).versions
    loaded = [version for version in model.versions if version.version in numbers]
    return RequestedModel(model=model, versions=_highest_first((*kept, *loaded)))


def with_requested(scan: RepositoryScan, requested: Mapping[str, RequestedModel]) -> RepositoryScan:
    """The scan with only the requested versions to serve."""
    models = {model.info.name: replace(model, serving=()) for model in scan.models}
    for name, one in requested.items():
        if not one.versions:
            continue
        known = models[name].versions if name in models else ()
        others = [version for version in known if version.version not in one.numbers]
        models[name] = replace(
            one.model,
            versions=_highest_first((*others, *one.versions)),
            serving=one.numbers,
            # They are loaded by requests: what is there counts, not what was.
            adapters=models[name].adapters if name in models else (),
        )
    return replace(scan, models=tuple(models[name] for name in sorted(models)))


def _highest_first(versions: Sequence[VersionInfo]) -> tuple[VersionInfo, ...]:
    return tuple(sorted(versions, key=lambda version: version.version, reverse=True))
