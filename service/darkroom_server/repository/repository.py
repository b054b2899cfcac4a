"""What a model repository on disk holds: folders of models with a config and numbered versions."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.problems import Problem, ProblemLog, quoted
from darkroom_server.model_config.config_override import ConfigOverride
from darkroom_server.repository.adapters.folders import AdapterFolders
from darkroom_server.repository.model_folder import ModelFolder, why_unreadable
from darkroom_server.repository.naming import NamedModel, find_lost_aliases, renamed_model
from darkroom_server.repository.scan import RepositoryModel, RepositoryScan
from darkroom_server.repository.unused_weights import is_weights
from darkroom_server.repository.version_files import DigestCache
from darkroom_server.worker.failures import attempt


class ModelRepository:
    """The folder that models are served from.

    `aliases` give models more names, which count after all that the configs say. A version without
    a manifest counts when its files have not changed for `settle_s`. Blocking file
    I/O, one caller at a time; nothing is written and no model code is run.
    """

    def __init__(
        self, root: Path, aliases: Mapping[str, str] | None = None, *, settle_s: float = 0.0
    ) -> None:
        self._root = root
        self._aliases = dict(aliases or {})
        self._settle_ns = round(settle_s * 1e9)
        self._digests = DigestCache()
        self._adapters = AdapterFolders(self._digests)
        self._overrides: Mapping[str, ConfigOverride] = {}

    def use_configs(self, overrides: Mapping[str, ConfigOverride]) -> None:
        """From the next scan on replaces fields of the configs of these models, and no others."""
        self._overrides = overrides

    def scan(self, in_use: Collection[Path] = ()) -> RepositoryScan:
        """Scans everything. Whatever is wrong with files is reported and never raised.

        The first scan reads every file once for its digest; later ones only what has changed.
        """
        del in_use  # nothing is ever removed
        self._digests.begin_scan()
        try:
            root = self._root.resolve(strict=True)
            with os.scandir(root) as found:
                entries = [entry for entry in found if not entry.name.startswith(".")]
                names = sorted(one.name for one in entries if one.is_symlink() or one.is_dir())
                loose = sorted(one.name for one in entries if is_weights(one.name))
        except (OSError, RuntimeError) as error:
            log = ProblemLog("")
            log.error(".", f"the model repository cannot be read: {why_unreadable(error)}")
            return RepositoryScan(
                models=(), broken=(), problems=tuple(log.problems), is_readable=False
            )
        settled_before_ns = time.time_ns() - self._settle_ns
        caches, overrides = (self._digests, self._adapters), self._overrides
        folders = [
            ModelFolder(root, name, *caches, settled_before_ns, overrides.get(name))
            for name in names
        ]
        models = [model for folder in folders if (model := _read(folder)) is not None]
        known = {model.info.name for model in models}
        named = [
            NamedModel(model.info, folder.config, folder.problems)
            for model in models
            for folder in folders
            if folder.name == model.info.name and folder.config is not None
        ]
        lost = find_lost_aliases(sorted(known), named)
        return RepositoryScan(
            models=tuple(
                renamed_model(model, lost.get(model.info.name, set()), self._aliases)
                for model in models
            ),
            broken=tuple(
                one.name for one in folders if one.name not in known and one.problems.error_count
            ),
            problems=(
                *(problem for folder in folders for problem in folder.problems.problems),
                *_outside_of_models(set(loose) - set(names)),
                *self._aliases_of_nothing(known),
            ),
            unread=tuple(folder.name for folder in folders if folder.name not in known),
            is_unfinished=any(folder.is_unfinished for folder in folders),
        )

    def close(self) -> None:
        """Ends a scan that is in progress."""
        self._digests.stop()

    def _aliases_of_nothing(self, known: set[str]) -> list[Problem]:
        log = ProblemLog("")
        for alias, name in self._aliases.items():
            if name not in known:
                log.error(
                    ".", f"alias {quoted(alias)} names a model that is not there: {quoted(name)}"
                )
        return log.problems


def _outside_of_models(names: Collection[str]) -> list[Problem]:
    log = ProblemLog("")
    for name in sorted(names):
        log.warning(name, "is ignored: weights belong into a version of a model")
    return log.problems


def _read(folder: ModelFolder) -> RepositoryModel | None:
    """One model. A folder whose reading fails does not keep the others from being read."""
    found = attempt(folder.read)
    if isinstance(found, DarkroomError):
        folder.problems.error(folder.name, "could not be read; the log has the cause")
        return None
    return found
