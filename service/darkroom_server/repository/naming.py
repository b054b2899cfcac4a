"""What models of a repository are called, and strings that more than one of them claims."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from darkroom_server.domain.models import ModelInfo
from darkroom_server.domain.problems import ProblemLog, quoted
from darkroom_server.model_config.config_file import ConfigFile
from darkroom_server.repository.scan import RepositoryModel

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
NO_MODEL_NAME = "is no name for a model: letters, digits, '.', '_' and '-' only"


def is_model_name(name: str) -> bool:
    """Whether a folder so named can be a model."""
    return _MODEL_NAME.fullmatch(name) is not None


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


def renamed(info: ModelInfo, lost: set[str], added: Mapping[str, str]) -> ModelInfo:
    """A model without the aliases that it lost, and with those of `added` that name it."""
    kept = [alias for alias in info.aliases if alias not in lost]
    more = [alias for alias, name in added.items() if name == info.name and alias not in kept]
    return replace(info, aliases=(*kept, *more))


def renamed_model(
    model: RepositoryModel, lost: set[str], added: Mapping[str, str]
) -> RepositoryModel:
    """A model and its versions, renamed as `renamed` says."""
    versions = (replace(one, model=renamed(one.model, lost, added)) for one in model.versions)
    return replace(model, info=renamed(model.info, lost, added), versions=tuple(versions))
