"""Which models and versions the files of a store make up. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from darkroom_server.domain.problems import ProblemLog, quoted
from darkroom_server.model_config.config_file import CONFIG_NAME
from darkroom_server.repository.pipeline_folder import unsafe_files
from darkroom_server.repository.remote_store import RemoteFile
from darkroom_server.repository.repository_cache import version_key

#: Nineteen digits and more are left to no store.
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteVersion:
    """A version as a store has it: its files by their names below the version's folder.

    Versions with equal `key` have the same files of the same content.
    """

    model: str
    number: int
    key: str
    files: dict[str, RemoteFile]

    @property
    def shown(self) -> str:
        """For problems and logs."""
        return f"{self.model}/{self.number}"

    @property
    def byte_count(self) -> int:
        """Bytes of all its files."""
        return sum(one.size_bytes for one in self.files.values())

    @property
    def changed_at_s(self) -> float | None:
        """When the last of its files changed, by the store's clock; None: unknown."""
        times = [one.changed_at_s for one in self.files.values()]
        known = [time for time in times if time is not None]
        return max(known) if len(known) == len(times) else None


@dataclass(slots=True)
class RemoteModel:
    """A model's folder as a store has it, and what is wrong with it."""

    name: str
    problems: ProblemLog
    config: RemoteFile | None = None
    versions: dict[int, RemoteVersion] = field(default_factory=dict)
    #: Numbers of versions that are refused by the names of their files.
    refused: set[int] = field(default_factory=set)


def group(files: Iterable[RemoteFile], problems: ProblemLog) -> dict[str, RemoteModel]:
    """Models by name. Versions with files whose names are refused are listed separately.

    Files that belong to no model or version are ignored, as in a folder, and so is what has a
    name that begins with a dot.
    """
    models: dict[str, RemoteModel] = {}
    versions: dict[tuple[str, int], dict[str, RemoteFile]] = {}
    for file in files:
        parts = file.name.split("/")
        if not parts[-1] or any(part.startswith(".") and part.strip(".") for part in parts):
            continue
        if not all(part.strip(".") and part.isprintable() for part in parts):
            problems.error(".", f"{quoted(file.name)} is no name for a file: it is left out")
            continue
        if len(parts) < 2:
            continue
        model = models.setdefault(parts[0], RemoteModel(parts[0], ProblemLog(parts[0])))
        if parts[1:] == [CONFIG_NAME]:
            model.config = file
        elif len(parts) > 2 and _NUMBER.fullmatch(parts[1]):
            inside = str(PurePosixPath(*parts[2:]))
            versions.setdefault((parts[0], int(parts[1])), {})[inside] = file
    for (name, number), found in versions.items():
        model, refused = models[name], list(unsafe_files(found))
        for file_name, message in refused:
            model.problems.error(f"{name}/{number}/{file_name}", message)
        if refused:
            model.refused.add(number)
        else:
            key = version_key({inside: one.key for inside, one in found.items()})
            model.versions[number] = RemoteVersion(model=name, number=number, key=key, files=found)
    return models
