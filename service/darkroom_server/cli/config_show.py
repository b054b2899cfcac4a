"""`darkroom config show`: what a server would run with, and where each setting comes from."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

import tomlkit
import typer

from darkroom_server.cli.option_groups import with_group
from darkroom_server.cli.server_flags import server_flags
from darkroom_server.config import CONFIG_VARIABLE, ConfigError, ServerConfig, load_config

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Shows settings.")

#: The password in a URL.
_PASSWORD = re.compile(r"(?<=://)([^:/@]*):[^@/]*@")


@app.callback()
def config_group() -> None:
    """Shows settings."""


@app.command("show")
@with_group("flags", server_flags)
def show(
    *,
    flags: dict[str, Any],
    config: Annotated[
        Path | None,
        typer.Option(help=f"TOML file with these settings. [also {CONFIG_VARIABLE}]"),
    ] = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only what is not as it is by default.")
    ] = False,
) -> None:
    """Writes the settings that `serve` would have, as a TOML file with a comment on each source.

    Passwords in URLs are left out.
    """
    try:
        settings = load_config(flags, file=config, environment=os.environ)
    except ConfigError as error:
        for problem in error.problems:
            typer.echo(f"darkroom config: {problem}", err=True)
        raise typer.Exit(2) from None
    sources = _sources(flags, config)
    for name, value in json.loads(settings.model_dump_json()).items():
        source = sources.get(name, "default")
        if source == "default" and changed:
            continue
        typer.echo(f"{_line(name, value):60} # {source}")


def _line(name: str, value: Any) -> str:
    if value is None:
        return f"# {name} is not set"
    if isinstance(value, str):
        value = _PASSWORD.sub(r"\1:…@", value)
    if isinstance(value, dict):
        table = tomlkit.inline_table()
        table.update(value)
        value = table
    return tomlkit.dumps({name: value}).strip()


def _sources(flags: dict[str, Any], config: Path | None) -> dict[str, str]:
    """Where the settings come from that are not default, the one that counts."""
    found: dict[str, str] = {}
    named = config or (Path(os.environ[CONFIG_VARIABLE]) if CONFIG_VARIABLE in os.environ else None)
    if named is not None:
        found |= dict.fromkeys(tomllib.loads(named.read_text()), str(named))
    for name in ServerConfig.model_fields:
        variable = f"DARKROOM_{name.upper()}"
        if variable in os.environ:
            found[name] = variable
    return found | {name: "flag" for name, value in flags.items() if value is not None}
