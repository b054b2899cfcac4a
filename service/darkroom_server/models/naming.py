"""Strings that more than one model of a repository claims."""

from __future__ import annotations

from dataclasses import dataclass

from darkroom_server.domain.models import ModelInfo
from darkroom_server.models.config_file import ConfigFile
from darkroom_server.models.problems import ProblemLog, quoted


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model with what is needed to point at its names."""

    info: ModelInfo
    config: ConfigFile
    problems: ProblemLog


def find_lost_aliases(folders: list[str], models: list[NamedModel]) -> dict[str, set[str]]:
    """Aliases that a model cannot have because another has them, by model; reports each.

    Folder names come first, then hub ids, then aliases, and among equals the first model by name.
    Hub ids and aliases are compared without regard to case.
    """
    claims = {folder.casefold(): folder for folder in folders}
    for model in models:
        hub_id, name = model.info.hub_id, model.info.name
        if hub_id and claims.setdefault(hub_id.casefold(), name) != name:
            owner = claims[hub_id.casefold()]
            model.config.warning(
                model.problems,
                f"requests for {quoted(hub_id)} go to model {quoted(owner)}, which has it too",
                "hub",
                "repo_id",
            )
    lost: dict[str, set[str]] = {}
    for model in models:
        for i, alias in enumerate(model.config.settings.aliases):
            owner = claims.setdefault(alias.casefold(), model.info.name)
            if owner != model.info.name:
                lost.setdefault(model.info.name, set()).add(alias)
                model.config.error(
                    model.problems,
                    f"alias {quoted(alias)} belongs to model {quoted(owner)}: choose another",
                    "aliases",
                    index=i,
                )
    return lost
