"""`darkroom check-repo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from darkroom_server.cli.tables import Columns, print_columns
from darkroom_server.cli.weights_check import with_weights_checked
from darkroom_server.domain.problems import Problem, Severity
from darkroom_server.repository.remote_store import is_url
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.repository.scan import RepositoryModel, RepositoryScan

EPILOG = "Exit codes: 0 no errors (warnings are allowed), 1 errors."

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow"}


def check_repo(
    location: Annotated[
        str, typer.Argument(metavar="PATH", help="The model repository.", show_default=True)
    ] = "model_repo",
) -> None:
    """Checks a model repository without loading a model: configs, versions, files, weights."""
    if is_url(location):
        message = (
            "is a URL: copy what it holds into a folder, or see what a server that follows it logs"
        )
        raise typer.BadParameter(message, param_hint="PATH")
    path = Path(location)
    scan = with_weights_checked(ModelRepository(path).scan())
    # One line a problem, also in a narrow terminal, so that editors and scripts can read it.
    console = Console(soft_wrap=True)
    for problem in scan.problems:
        _print_problem(console, path, problem)
    if scan.models or scan.broken:
        print_columns(console, _table(scan))
    console.print(Text(_summary(scan)))
    raise typer.Exit(1 if scan.has_errors else 0)


def _print_problem(console: Console, root: Path, problem: Problem) -> None:
    severity = (f"{problem.severity.value}:", _STYLES[problem.severity])
    # Text: what files say is never read as markup.
    console.print(Text.assemble(f"{root / problem.place}: ", severity, f" {problem.message}"))
    if problem.excerpt:
        console.print(Text("\n".join(f"    {line}" for line in problem.excerpt.split("\n"))))


def _table(scan: RepositoryScan) -> Columns:
    table = Columns(
        ("model", "versions", "pipeline", "tasks", "default size", "weights", "problems"),
    )
    rows = {model.info.name: _cells(model) for model in scan.models}
    rows |= dict.fromkeys(scan.broken, ("none", "-", "-", "-", "-"))
    for name, cells in sorted(rows.items()):
        found = [problem for problem in scan.problems if problem.model == name]
        table.add(name, *cells, _counts(found) or "ok")
    return table


def _cells(model: RepositoryModel) -> tuple[str, ...]:
    info = model.info
    default = model.version(model.default_version or 0)
    return (
        ", ".join(_version(model, version.version) for version in model.versions),
        info.pipeline_class,
        ", ".join(sorted(task.value for task in info.tasks)),
        f"{info.defaults.width_px}x{info.defaults.height_px}",
        f"{default.weight_bytes / 2**20:,.1f} MiB" if default is not None else "-",
    )


def _version(model: RepositoryModel, number: int) -> str:
    """The default version has a star, one that does not serve stands in brackets."""
    if number == model.default_version:
        return f"{number}*"
    return str(number) if number in model.serving else f"({number})"


def _summary(scan: RepositoryScan) -> str:
    noun = "model" if len(scan.models) == 1 else "models"
    return f"{len(scan.models)} {noun} can be served: {_counts(scan.problems) or 'no problems'}"


def _counts(problems: tuple[Problem, ...] | list[Problem]) -> str:
    counts = []
    for severity in Severity:
        count = sum(problem.severity is severity for problem in problems)
        if count:
            counts.append(f"{count} {severity.value}{'s' if count > 1 else ''}")
    return ", ".join(counts)
