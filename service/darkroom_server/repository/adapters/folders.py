"""Adapters in a model's folder: `adapters/{name}/{version}/`, one file of weights in each."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from darkroom_server.domain.adapters import AdapterVersion
from darkroom_server.domain.models import VersionInfo
from darkroom_server.domain.problems import ProblemLog
from darkroom_server.repository.adapters.config import (
    ADAPTER_CONFIG_NAME,
    AdapterSettings,
    read_adapter_config,
)
from darkroom_server.repository.adapters.layers import (
    BaseLayers,
    Found,
    Misfit,
    base_layers,
    check_adapter,
)
from darkroom_server.repository.manifest import checked_digests
from darkroom_server.repository.naming import is_model_name
from darkroom_server.repository.unused_weights import is_weights
from darkroom_server.repository.version_files import (
    MANIFEST_NAME,
    DigestCache,
    FileEntry,
    list_files,
    version_digest,
)
from darkroom_server.repository.weights import BadWeights

ADAPTERS_NAME = "adapters"
#: Files whose checks are remembered; beyond these they are repeated.
_MAX_REMEMBERED = 20_000
_VERSION_NAME = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class _Checked:
    """What a look at a file found: what it adds to, or why it is refused."""

    found: Found | None
    reason: str = ""


class AdapterFolders:
    """Looks into adapters' folders; what has been read and is unchanged is not read again.

    Blocking, one caller at a time.
    """

    def __init__(self, digests: DigestCache) -> None:
        self._digests = digests
        self._checked: dict[tuple[FileEntry, str], _Checked] = {}
        self._bases: dict[str, BaseLayers] = {}

    def read(
        self,
        folder: Path,
        base: VersionInfo,
        *,
        root: Path,
        settled_before_ns: int,
        problems: ProblemLog,
    ) -> tuple[tuple[AdapterVersion, ...], bool]:
        """The adapters that fit `base`, and whether some are still being written.

        What is wrong with others is a problem. `folder` is the model's.
        """
        look = _Look(self, base, root, settled_before_ns, problems)
        look.run(folder / ADAPTERS_NAME, f"{base.model.name}/{ADAPTERS_NAME}")
        return tuple(look.found), look.is_unfinished

    def check(self, entry: FileEntry, base: VersionInfo) -> _Checked:
        """What an adapter's file adds to the base, or why it does not fit."""
        key = entry, base.digest
        if len(self._checked) > _MAX_REMEMBERED:
            self._checked.clear()
        if key not in self._checked:
            self._checked[key] = self._look_into(entry, base)
        return self._checked[key]

    def _look_into(self, entry: FileEntry, base: VersionInfo) -> _Checked:
        try:
            if base.digest not in self._bases:
                names = [one.name for one in base.files]
                self._bases = {base.digest: base_layers(base.path, names)}
            return _Checked(check_adapter(entry.path, entry.size_bytes, self._bases[base.digest]))
        except (Misfit, BadWeights) as error:
            return _Checked(None, str(error))
        except OSError as error:
            return _Checked(None, f"cannot be read: {error.strerror or error}")

    def digests(
        self, files: Mapping[str, FileEntry], shown: str, problems: ProblemLog
    ) -> dict[str, str] | None:
        """SHA-256 of a version's files by name; None with a problem."""
        return checked_digests(files, self._digests, shown=shown, problems=problems)


@dataclass(slots=True)
class _Look:
    """One look at one model's adapters."""

    folders: AdapterFolders
    base: VersionInfo
    root: Path
    settled_before_ns: int
    problems: ProblemLog
    found: list[AdapterVersion] = field(default_factory=list)
    is_unfinished: bool = False

    def run(self, folder: Path, shown: str) -> None:
        for child in _children(folder, shown, self.problems):
            name = f"{shown}/{child.name}"
            if not _is_folder(child):
                self.problems.warning(name, "is ignored: an adapter is a folder with versions")
            elif not is_model_name(child.name):
                self.problems.error(
                    name, "is no name for an adapter: letters, digits, '.', '_' and '-' only"
                )
            else:
                self._adapter(child, name)

    def _adapter(self, folder: Path, shown: str) -> None:
        if not self._is_inside(folder, shown):
            return
        settings: AdapterSettings | None = AdapterSettings()
        numbers: list[int] = []
        for child in _children(folder, shown, self.problems):
            name = f"{shown}/{child.name}"
            if child.name == ADAPTER_CONFIG_NAME:
                settings = self._settings(child, name)
            elif _VERSION_NAME.fullmatch(child.name) and _is_folder(child):
                numbers.append(int(child.name))
            elif is_weights(child.name):
                self.problems.warning(name, "is ignored: weights belong into a version")
            elif _is_folder(child):
                self.problems.warning(
                    name, "is ignored: a version's folder is a number without leading zeros"
                )
        if settings is None:
            return
        if not numbers:
            self.problems.error(shown, "has no version: put the file into a folder 1/")
        for number in sorted(numbers):
            self._version(folder, shown, number, settings)

    def _settings(self, path: Path, shown: str) -> AdapterSettings | None:
        if not self._is_inside(path, shown):
            return None
        if not path.is_file():
            self.problems.error(shown, "is not a file")
            return None
        return read_adapter_config(path, shown, self.problems)

    def _is_inside(self, path: Path, shown: str) -> bool:
        try:
            is_inside = path.resolve(strict=True).is_relative_to(self.root)
        except (OSError, RuntimeError):
            self.problems.error(shown, "is a link that leads nowhere")
            return False
        if not is_inside:
            self.problems.error(shown, "is a link that leaves the repository")
        return is_inside

    def _version(self, folder: Path, shown: str, number: int, settings: AdapterSettings) -> None:
        before = self.problems.error_count
        shown = f"{shown}/{number}"
        files = list_files(
            folder / str(number), root=self.root, shown=shown, problems=self.problems
        )
        if not self._is_settled(files):
            self.is_unfinished = True
            self.problems.warning(shown, "is still being written; it will be scanned again")
            return
        entry = self._weights(files, shown)
        if entry is None or self.problems.error_count > before:
            return
        digests = self.folders.digests(files, shown, self.problems)
        if digests is None or self.problems.error_count > before:
            return
        checked = self.folders.check(entry, self.base)
        if checked.found is None:
            self.problems.error(f"{shown}/{entry.path.name}", checked.reason)
            return
        labels = sorted(label for label, at in settings.labels.items() if at == number)
        self.found.append(
            AdapterVersion(
                name=folder.name,
                version=number,
                path=entry.path.resolve(),
                digest=version_digest(digests),
                size_bytes=entry.size_bytes,
                mtime_ns=entry.mtime_ns,
                ranks=checked.found.ranks,
                targets=checked.found.targets,
                aliases=settings.aliases,
                labels=tuple(labels),
                default_weight=settings.default_weight,
                trigger_words=settings.trigger_words,
                license=settings.license,
            )
        )

    def _weights(self, files: Mapping[str, FileEntry], shown: str) -> FileEntry | None:
        """The one file of weights."""
        weights = {name: entry for name, entry in files.items() if is_weights(name)}
        others = [name for name in weights if not name.endswith(".safetensors")]
        if others:
            self.problems.error(
                f"{shown}/{others[0]}",
                "is refused: adapters are safetensors files; others may hold pickled code",
            )
            return None
        if len(weights) != 1:
            count = len(weights) or "no"
            self.problems.error(shown, f"has {count} safetensors files; an adapter is one")
            return None
        return next(iter(weights.values()))

    def _is_settled(self, files: Mapping[str, FileEntry]) -> bool:
        return MANIFEST_NAME in files or all(
            not self.settled_before_ns < entry.ctime_ns <= time.time_ns()
            for entry in files.values()
        )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _children(folder: Path, shown: str, problems: ProblemLog) -> list[Path]:
    try:
        return sorted(one for one in folder.iterdir() if not one.name.startswith("."))
    except OSError as error:
        problems.error(shown, f"cannot be read: {error.strerror or error}")
        return []
