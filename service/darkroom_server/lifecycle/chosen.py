"""What of a repository is loaded where nothing loads by itself. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from darkroom_server.domain.models import VersionInfo
from darkroom_server.repository.scan import RepositoryModel, RepositoryScan


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A model as it was when something of it was loaded last, and the versions told to load.

    Versions are kept as they were when they were told to: files that change, or go, change nothing.
    """

    model: RepositoryModel
    versions: tuple[VersionInfo, ...] = ()

    @property
    def numbers(self) -> tuple[int, ...]:
        """The versions, highest first."""
        return tuple(version.version for version in self.versions)

    def without(self, numbers: Collection[int]) -> Chosen:
        """After some versions were unloaded."""
        kept = tuple(version for version in self.versions if version.version not in numbers)
        return replace(self, versions=kept)


def choose(
    before: Chosen | None, model: RepositoryModel, numbers: Sequence[int], *, in_place: bool
) -> Chosen:
    """After versions were loaded as they are in `model`; `in_place` of all others, or beside."""
    kept = () if before is None or in_place else before.without(numbers).versions
    loaded = [version for version in model.versions if version.version in numbers]
    return Chosen(model=model, versions=_highest_first((*kept, *loaded)))


def as_chosen(look: RepositoryScan, chosen: Mapping[str, Chosen]) -> RepositoryScan:
    """The look at a repository, in which what was told to load serves and nothing else does."""
    models = {model.info.name: replace(model, serving=()) for model in look.models}
    for name, one in chosen.items():
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
    return replace(look, models=tuple(models[name] for name in sorted(models)))


def _highest_first(versions: Sequence[VersionInfo]) -> tuple[VersionInfo, ...]:
    return tuple(sorted(versions, key=lambda version: version.version, reverse=True))
