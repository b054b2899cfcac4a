"""Configs of well-known models, as `darkroom pull` writes them beside what it fetches.

One file a model in `catalogue_configs`, named by its id on the hub with `--` for `/`. Each is a
`config.pbtxt` without what a pull adds; a comment in its first line is a note for people.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from importlib import resources

from darkroom_server.domain.problems import ProblemLog
from darkroom_server.model_config.config_file import read_config
from darkroom_server.model_config.settings import ModelSettings

_FOLDER = "catalogue_configs"
_SUFFIX = ".pbtxt"


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A model of the catalogue: its id on the hub, and the text of its config."""

    repo_id: str
    text: str

    @property
    def note(self) -> str:
        """What people should know before they fetch it; may be empty."""
        first = self.text.partition("\n")[0]
        return first.removeprefix("# ") if first.startswith("# ") else ""

    def settings(self) -> ModelSettings:
        """What the config says. Raises ValueError for one that cannot be read."""
        problems = ProblemLog(self.repo_id)
        config = read_config(self.text.encode(), shown=self.repo_id, problems=problems)
        if config is None:
            raise ValueError("; ".join(map(str, problems.problems)))
        return config.settings

    def text_without(self, aliases: Collection[str]) -> str:
        """The text for a repository in which models have these names already; raises ValueError."""
        taken = {alias.casefold() for alias in aliases}
        lines = {f'aliases: "{alias}"': alias for alias in self.settings().aliases}
        kept = [
            line
            for line in self.text.splitlines(keepends=True)
            if lines.get(line.strip(), "").casefold() not in taken
        ]
        return "".join(kept)


def catalogue() -> tuple[CatalogueEntry, ...]:
    """All entries, by their ids."""
    folder = resources.files(__package__) / _FOLDER
    entries = [
        CatalogueEntry(
            repo_id=file.name.removesuffix(_SUFFIX).replace("--", "/", 1),
            text=file.read_text(encoding="utf-8"),
        )
        for file in folder.iterdir()
        if file.name.endswith(_SUFFIX)
    ]
    return tuple(sorted(entries, key=lambda entry: entry.repo_id.casefold()))


def find_entry(repo_id: str) -> CatalogueEntry | None:
    """The entry of a hub repository, whatever the case of its letters."""
    wanted = repo_id.casefold()
    return next((one for one in catalogue() if one.repo_id.casefold() == wanted), None)
