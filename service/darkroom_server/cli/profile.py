"""`darkroom profile`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from darkroom_server.cli.exits import ExitCode, file_problem
from darkroom_server.cli.local_models import local_version, quieten
from darkroom_server.domain.errors import ModelUnavailable
from darkroom_server.domain.models import VersionInfo
from darkroom_server.model_config.config_edit import NotEdited, write_denoiser
from darkroom_server.worker.profiling import (
    Cell,
    Profile,
    candidates,
    gain,
    profile,
    recommended,
)

EPILOG = (
    "Measure on a machine that does nothing else. int8 and bf16 change pictures visibly little; "
    "they are recommended with --lossy only. Exit codes: 0 done, 1 it could not be measured or "
    "written, 130 interrupted."
)


def profile_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model's folder.")],
    rows: Annotated[
        str, typer.Option(help="Numbers of rows; an image with guidance takes two.")
    ] = "1,2,4,8",
    size: Annotated[
        list[str] | None,
        typer.Option(help="WIDTHxHEIGHT, several times if wished. [default: the model's]"),
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(help="A denoiser not to measure, e.g. torch_compile.")
    ] = None,
    lossy: Annotated[bool, typer.Option(help="Also recommend int8 and bf16.")] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Put what is recommended into config.pbtxt.")
    ] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Steps a figure; the quickest counts.")] = 5,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Processor threads. [default: all]")
    ] = None,
    version: Annotated[
        int | None, typer.Option(help="Which version. [default: the one that serves]")
    ] = None,
    model_repository: Annotated[Path, typer.Option(help="Folder of the models.")] = Path(
        "model_repo"
    ),
) -> None:
    """Measures what a step costs by each denoiser that this machine has, and recommends one."""
    quieten()
    found = local_version(model_repository, model, version)
    cells = _cells(found, rows, size or [])
    console = Console()
    try:
        profiles, reasons = _measure(
            found, cells, set(skip or ()), repeats=repeats, threads=threads or os.cpu_count() or 1
        )
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    for label, reason in reasons.items():
        console.print(Text(f"{label}: {reason}"), soft_wrap=True)
    if not profiles:
        raise typer.Exit(ExitCode.FILE_ERROR)
    console.print(_table(profiles, cells))
    best = recommended(profiles, profiles[0], lossy=lossy)
    console.print(Text(f"recommended: {best.label}"))
    if write:
        try:
            write_denoiser(model_repository / model, best)
        except (NotEdited, OSError) as error:
            problem = file_problem(error) if isinstance(error, OSError) else str(error)
            typer.echo(f"darkroom profile: {problem}", err=True)
            raise typer.Exit(ExitCode.FILE_ERROR) from None
        console.print(Text(f"written to {model_repository / model}/config.pbtxt"))


def _cells(version: VersionInfo, rows: str, sizes: Sequence[str]) -> list[Cell]:
    info = version.model
    try:
        row_counts = sorted({int(word) for word in rows.split(",")})
        pairs = [(int(w), int(h)) for w, h in (one.lower().split("x") for one in sizes)]
    except ValueError:
        raise typer.BadParameter("--rows is like 1,2,4 and --size like 512x512") from None
    if row_counts[0] < 1:
        raise typer.BadParameter("rows begin with 1", param_hint="--rows")
    multiple_px = info.limits.size_multiple_px
    for edge_px in (edge for pair in pairs for edge in pair):
        if edge_px % multiple_px or not (
            info.limits.min_size_px <= edge_px <= info.limits.max_size_px
        ):
            raise typer.BadParameter(
                f"edges are {info.limits.min_size_px} to {info.limits.max_size_px}, multiples of "
                f"{multiple_px}",
                param_hint="--size",
            )
    default = (info.defaults.width_px, info.defaults.height_px)
    return [(w, h, row_count) for w, h in pairs or [default] for row_count in row_counts]


def _measure(
    version: VersionInfo, cells: Sequence[Cell], skipped: set[str], *, repeats: int, threads: int
) -> tuple[list[Profile], dict[str, str]]:
    """What could be measured, the stock denoiser first, and why the others could not."""
    profiles: list[Profile] = []
    reasons: dict[str, str] = {}
    wanted = [one for one in candidates() if one.label not in skipped]
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task("measuring", total=len(wanted) * len(cells))
        for number, denoiser in enumerate(wanted, start=1):
            bar.update(task, description=f"{denoiser.label}: loading")
            try:
                one = profile(
                    version,
                    denoiser,
                    cells,
                    thread_count=threads,
                    repeat_count=repeats,
                    on_cell=lambda: bar.advance(task),
                )
                profiles.append(one)
            except (ModelUnavailable, ValueError, RuntimeError, MemoryError) as error:
                # RuntimeError is torch's: out of memory, for example.
                reasons[denoiser.label] = str(error).partition("\n")[0] or type(error).__name__
            bar.update(task, completed=number * len(cells))
    return profiles, reasons


def _table(profiles: Sequence[Profile], cells: Sequence[Cell]) -> Table:
    table = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        title="milliseconds a step, and of decoding an image",
    )
    table.add_column("denoiser")
    for width_px, height_px, row_count in cells:
        noun = "row" if row_count == 1 else "rows"
        table.add_column(f"{width_px}x{height_px}\n{row_count} {noun}", justify="right")
    for width_px, height_px in profiles[0].decode_s:
        table.add_column(f"{width_px}x{height_px}\ndecoding", justify="right")
    table.add_column("images,\ntimes torch", justify="right")
    table.add_column("set up in s", justify="right")
    for one in profiles:
        table.add_row(
            Text(one.denoiser.label),
            *(f"{one.step_s[cell] * 1e3:.1f}" for cell in cells),
            *(f"{decode_s * 1e3:.1f}" for decode_s in one.decode_s.values()),
            f"{gain(one, profiles[0]):.2f}",
            f"{one.setup_s:.1f}",
        )
    return table
