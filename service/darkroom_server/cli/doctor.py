"""`darkroom doctor`: what would keep a server from serving here, and what helps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from darkroom_server.cli.diagnosis import diagnose
from darkroom_server.cli.findings import Finding, Health
from darkroom_server.cli.option_groups import with_group
from darkroom_server.cli.server_flags import server_flags
from darkroom_server.config import CONFIG_VARIABLE, ConfigError, load_config

EPILOG = "Exit codes: 0 nothing is in the way (warnings are allowed), 1 something is, 2 settings."


@with_group("flags", server_flags)
def doctor(
    *,
    flags: dict[str, Any],
    config: Annotated[
        Path | None,
        typer.Option(help=f"TOML file with these settings. [also {CONFIG_VARIABLE}]"),
    ] = None,
) -> None:
    """Looks at the machine with the settings of `serve`, and says what is wrong and what helps.

    Starts nothing and loads no model.
    """
    try:
        settings = load_config(flags, file=config, environment=os.environ)
    except ConfigError as error:
        for problem in error.problems:
            typer.echo(f"darkroom doctor: {problem}", err=True)
        raise typer.Exit(2) from None
    findings = diagnose(settings)
    for finding in findings:
        typer.echo(_line(finding))
    failed = any(finding.health is Health.FAILED for finding in findings)
    raise typer.Exit(1 if failed else 0)


def _line(finding: Finding) -> str:
    advice = f"\n{'':24}→ {finding.remedy}" if finding.remedy else ""
    return f"{finding.health.value:7} {finding.subject:15} {finding.text}{advice}"
