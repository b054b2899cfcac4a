"""`darkroom serve`: runs the server in the foreground."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from darkroom_server.access.keys_file import KeysFileError
from darkroom_server.access.ledger import LedgerError
from darkroom_server.app import run
from darkroom_server.cli.exits import file_problem
from darkroom_server.cli.option_groups import with_group
from darkroom_server.cli.server_flags import server_flags
from darkroom_server.config import CONFIG_VARIABLE, ConfigError, ServerConfig, load_config
from darkroom_server.repository.remote_repository import RemoteLocation
from darkroom_server.repository.remote_store import RemoteError, RemoteStore
from darkroom_server.telemetry.logs import (
    LOG_FORMAT_VARIABLE,
    LOG_LEVEL_VARIABLE,
    LOG_PROMPTS_VARIABLE,
    configure_logs,
)
from darkroom_server.wire.tls import TlsError


def _settings(flags: dict[str, Any], config: Path | None) -> ServerConfig:
    """What the server is to run with; says in one line what is wrong and leaves."""
    try:
        settings = load_config(flags, file=config, environment=os.environ)
        settings.check_exposure()
    except ConfigError as error:
        for problem in error.problems:
            typer.echo(f"darkroom serve: {problem}", err=True)
        raise typer.Exit(2) from None
    problem = _problem_of(settings.location)
    if problem:
        typer.echo(f"darkroom serve: {problem}; name one with --model-repository", err=True)
        raise typer.Exit(2)
    if settings.state_file is not None and not settings.state_file.parent.is_dir():
        typer.echo(
            f"darkroom serve: no folder {settings.state_file.parent} for the state file", err=True
        )
        raise typer.Exit(2)
    return settings


def _problem_of(location: Path | RemoteLocation) -> str:
    """Why there can be no repository there; a store that does not answer is logged later."""
    if isinstance(location, Path):
        return "" if location.is_dir() else f"no model repository at {location}"
    try:
        RemoteStore(location.url)
    except RemoteError as error:
        return str(error)
    return ""


@with_group("flags", server_flags)
def serve(
    *,
    flags: dict[str, Any],
    config: Annotated[
        Path | None,
        typer.Option(help=f"TOML file with these settings. [also {CONFIG_VARIABLE}]"),
    ] = None,
) -> None:
    """Serves the models of a repository over gRPC until SIGTERM or Ctrl-C.

    A flag wins over its DARKROOM_ variable, which wins over the file of --config.
    """
    settings = _settings(flags, config)
    _run(settings)


def _run(settings: ServerConfig) -> None:
    # The workers inherit these.
    os.environ[LOG_FORMAT_VARIABLE] = settings.log_format
    os.environ[LOG_LEVEL_VARIABLE] = settings.log_level
    os.environ[LOG_PROMPTS_VARIABLE] = str(settings.log_prompts).lower()
    configure_logs()
    try:
        run(settings)
    except OSError as error:
        typer.echo(f"darkroom serve: {file_problem(error)}", err=True)
        raise typer.Exit(1) from None
    except (ConfigError, KeysFileError, LedgerError, TlsError) as error:
        typer.echo(f"darkroom serve: {error}", err=True)
        raise typer.Exit(2) from None
