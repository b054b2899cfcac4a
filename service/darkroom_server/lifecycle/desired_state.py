"""What should be loaded: the one place that knows it. Neither reads files nor waits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from darkroom_server.domain.problems import Problem
from darkroom_server.lifecycle.earlier_scan import keep_unreadable
from darkroom_server.lifecycle.labels import MovedLabels
from darkroom_server.lifecycle.requested import RequestedModel, request_versions, with_requested
from darkroom_server.lifecycle.state_file import SavedState
from darkroom_server.repository.scan import RepositoryModel, RepositoryScan

#: In `load_models`: all there are.
EVERY_MODEL = "*"


@dataclass(frozen=True, slots=True)
class Missing:
    """A version that should be loaded and is not in the repository."""

    model: str
    version: int


class DesiredState:
    """The last scan, what requests asked to load, and the labels that they moved.

    `is_explicit`: only what was requested should be loaded; else whatever the scan says serves.
    """

    def __init__(self, *, is_explicit: bool) -> None:
        self._is_explicit = is_explicit
        #: The repository, with what was known of folders that cannot be read now.
        self.scan = RepositoryScan(models=(), broken=(), problems=())
        #: The last scan alone.
        self.last_scan = self.scan
        self._requested: dict[str, RequestedModel] = {}
        #: Requested and not in the repository yet; None: the versions that the policy chooses.
        self._pending: dict[str, tuple[int, ...] | None] = {}
        self._labels: dict[str, MovedLabels] = {}

    def restore(self, saved: SavedState, load_models: Iterable[str]) -> None:
        """Takes over what an earlier server saved, and what is to be loaded at start."""
        self._labels = dict(saved.labels)
        if not self._is_explicit:
            return
        names = set(load_models)
        if EVERY_MODEL in names:
            names |= {model.info.name for model in self.scan.models} | set(self.scan.unread)
        self._pending = dict.fromkeys(names - {EVERY_MODEL}) | dict(saved.loads)

    def saved(self) -> SavedState:
        """What the next server needs to know."""
        loads = {name: one.numbers for name, one in self._requested.items()}
        loads |= {name: numbers for name, numbers in self._pending.items() if numbers}
        return SavedState(loads=loads, labels=dict(self._labels))

    def wanted(self) -> RepositoryScan:
        """What should be loaded: `serving` of each model."""
        return with_requested(self.scan, self._requested) if self._is_explicit else self.scan

    @property
    def moved_labels(self) -> Mapping[str, MovedLabels]:
        """Labels that requests moved, by model."""
        return self._labels

    @property
    def pending(self) -> Collection[str]:
        """Models that were requested and are not in the repository."""
        return self._pending.keys()

    @property
    def requested_paths(self) -> set[Path]:
        """Folders of the versions that were requested."""
        return {one.path for model in self._requested.values() for one in model.versions}

    def update(self, scan: RepositoryScan) -> tuple[Problem, ...]:
        """Takes a new scan; returns the problems that the one before did not have."""
        known = set(self.scan.problems)
        self.scan, self.last_scan = keep_unreadable(self.scan, scan), scan
        return tuple(one for one in scan.problems if one not in known)

    def why_unread(self, name: str, numbers: Collection[int]) -> str:
        """Why a model or some of its versions cannot be read now; empty when they can."""
        return self.last_scan.why_unread(name, numbers)

    def request_pending(self) -> tuple[Missing, ...]:
        """Requests what was pending and is there now; returns versions that will not come."""
        missing: list[Missing] = []
        for name, numbers in tuple(self._pending.items()):
            model = next((one for one in self.scan.models if one.info.name == name), None)
            if model is None:
                continue
            wanted = model.serving if numbers is None else numbers
            there = [one for one in wanted if model.version(one) is not None]
            absent = set(wanted) - set(there)
            if not absent or not self.scan.is_unfinished:
                del self._pending[name]
                missing += [Missing(name, number) for number in absent]
            self._requested[name] = request_versions(None, model, there, in_place=True)
        return tuple(missing)

    def request(self, model: RepositoryModel, numbers: Sequence[int], *, in_place: bool) -> None:
        """Versions of a model should be loaded; `in_place`: and no other of it."""
        name = model.info.name
        before = self._requested.get(name)
        self._requested[name] = request_versions(before, model, numbers, in_place=in_place)

    def forget_pending(self, name: str) -> None:
        """No longer waits for a model to appear."""
        self._pending.pop(name, None)

    def unload(self, model: RepositoryModel, numbers: Collection[int]) -> None:
        """Versions of a model should not be loaded any more, nor after a restart."""
        self._requested.setdefault(model.info.name, RequestedModel(model=model))
        self.withdraw(model.info.name, numbers)

    def withdraw(self, name: str, numbers: Collection[int]) -> None:
        """Versions that were requested should not be loaded any more."""
        self._requested[name] = self._requested[name].without(numbers)

    def labels_of(self, name: str) -> MovedLabels:
        """The labels of a model that requests moved."""
        return self._labels.get(name, MovedLabels())

    def set_labels(self, name: str, moved: MovedLabels) -> None:
        """Keeps where labels of a model were moved."""
        self._labels[name] = moved
