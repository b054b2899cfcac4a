"""The result of a scan of a model repository."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from darkroom_server.domain.adapters import AdapterVersion
from darkroom_server.domain.models import ModelInfo, VersionInfo
from darkroom_server.domain.problems import Problem, Severity
from darkroom_server.model_config.settings import LatestVersions, VersionPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryModel:
    """A model with at least one whole version.

    `info` is that of the default version. `versions` are all whole ones, highest first; `serving`
    are those that the version policy chooses, highest first, possibly none. `unread` are folders of
    versions that are not whole. Labels point only at whole versions.
    """

    info: ModelInfo
    versions: tuple[VersionInfo, ...]
    serving: tuple[int, ...]
    policy: VersionPolicy = field(default_factory=LatestVersions)
    unread: tuple[int, ...] = ()
    adapters: tuple[AdapterVersion, ...] = ()

    @property
    def default_version(self) -> int | None:
        """What a request without a version gets: label `stable` if it serves, else the highest."""
        stable = self.info.version_labels.get("stable")
        if stable in self.serving:
            return stable
        return self.serving[0] if self.serving else None

    def version(self, number: int) -> VersionInfo | None:
        """A whole version by its number."""
        return next((version for version in self.versions if version.version == number), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryScan:
    """The result of one scan: models by name, and everything that is wrong with the repository.

    `broken` names the model folders that hold something but no version that could be served;
    `unread` those that could not be read at all, `fetching` those that are on their way from
    elsewhere. `is_unfinished` says that another scan will find more, `is_readable` whether the
    repository itself could be read. `default_model`: for requests that name none, if there is
    one.
    """

    models: tuple[RepositoryModel, ...]
    broken: tuple[str, ...]
    problems: tuple[Problem, ...]
    unread: tuple[str, ...] = ()
    fetching: tuple[str, ...] = ()
    is_unfinished: bool = False
    is_readable: bool = True
    default_model: str = ""

    @property
    def has_errors(self) -> bool:
        """Whether any problem is an error."""
        return any(problem.severity is Severity.ERROR for problem in self.problems)

    def refusal(self, name: str) -> str:
        """What of a model is not served as it is written, and why; empty: nothing."""
        return self._first_problem(name, Severity.ERROR)

    def why_unread(self, name: str, numbers: Collection[int]) -> str:
        """Why a model, or one of these versions of it, could not be read; empty: it could be."""
        unread = next((one.unread for one in self.models if one.info.name == name), None)
        is_unread = name in self.unread if unread is None else bool(set(unread) & set(numbers))
        if not is_unread:
            return ""
        return self.refusal(name) or self._first_problem(name, Severity.WARNING)

    def _first_problem(self, name: str, severity: Severity) -> str:
        """The first problem of a model, and how many more there are."""
        first, *others = (
            *(str(one) for one in self.problems if (one.model, one.severity) == (name, severity)),
            "",
        )
        return f"{first} (and {len(others) - 1} more)" if len(others) > 1 else first
