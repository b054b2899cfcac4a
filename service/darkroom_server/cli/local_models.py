"""A model of a repository on this machine, for commands that work on its files."""

from __future__ import annotations

import logging
from pathlib import Path

import structlog
import typer

from darkroom_server.domain.models import VersionInfo
from darkroom_server.repository.repository import ModelRepository


def quieten() -> None:
    """Keeps notices of libraries and of the worker's code out of a command's output."""
    logging.disable(logging.WARNING)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def local_version(root: Path, name: str, number: int | None) -> VersionInfo:
    """A whole version by its model's folder; without a number the one that serves by default.

    Raises typer.BadParameter with the names that there are.
    """
    scan = ModelRepository(root).scan()
    model = next((one for one in scan.models if one.info.name == name), None)
    if model is None:
        there = ", ".join(one.info.name for one in scan.models) or "none"
        why = next((f" ({one.message})" for one in scan.problems if one.model == name), "")
        raise typer.BadParameter(f"{root} has no model {name!r}{why}. There: {there}.")
    chosen = number or model.default_version or model.versions[0].version
    version = model.version(chosen)
    if version is None:
        there = ", ".join(str(one.version) for one in model.versions)
        raise typer.BadParameter(f"{name} has no version {chosen}. There: {there}.")
    return version
