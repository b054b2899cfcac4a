"""`darkroom models`: what a server's models are doing, and changing it."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Annotated

import click
import typer
from click.core import ParameterSource
from rich.console import Console
from rich.text import Text

from darkroom_client import DeadlineExceeded, Model, Unavailable
from darkroom_server.cli import options
from darkroom_server.cli.access import ServerAccess, with_access
from darkroom_server.cli.adapter_table import adapter_table
from darkroom_server.cli.exits import EXIT_CODES_HELP, one_line_errors
from darkroom_server.cli.load_progress import load_view_for
from darkroom_server.cli.model_table import (
    VERSION_MARKS,
    model_table,
    sharing_text,
    version_table,
    vocabulary_text,
)
from darkroom_server.cli.model_table import as_json as json_of
from darkroom_server.cli.model_watch import Watch, watch_for
from darkroom_server.cli.tables import print_columns, print_line

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    add_completion=False,
    epilog=EXIT_CODES_HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[str, typer.Argument(metavar="MODEL", show_default=False)]

#: How long `watch` waits for a server that does not answer before it says so.
WATCH_TIMEOUT_S = 5.0


@app.callback()
@with_access
def models(
    context: typer.Context,
    *,
    access: ServerAccess,
    timeout: options.Timeout = 10.0,
    as_json: options.AsJson = False,
) -> None:
    """Lists the server's models: what they are called, what they can do, how they are.

    Loading and unloading need a server that runs with --model-control explicit.
    """
    command = context.invoked_subcommand
    if command is None:
        _list(access, timeout, as_json=as_json)
        return
    for name in context.params:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"options come after the command: darkroom models {command} …")


@app.command("list", epilog=EXIT_CODES_HELP)
@with_access
def list_models(
    *,
    access: ServerAccess,
    timeout: options.Timeout = 10.0,
    as_json: options.AsJson = False,
) -> None:
    """Lists the server's models."""
    _list(access, timeout, as_json=as_json)


@app.command(epilog=EXIT_CODES_HELP)
@with_access
def show(
    name: Name,
    *,
    access: ServerAccess,
    timeout: options.Timeout = 10.0,
    as_json: options.AsJson = False,
) -> None:
    """Shows one model: its versions and adapters, and the words it knows if it was taught few."""
    with one_line_errors():
        with access.connect() as client:
            model = client.get_model(name, timeout=timeout)
        if as_json:
            typer.echo(json.dumps(json_of(model)))
        else:
            console = Console()
            print_columns(console, version_table([model]))
            if (adapters := adapter_table(model)) is not None:
                print_columns(console, adapters)
            for line in (*sharing_text(model), *vocabulary_text(model)):
                # Long lists of words are for reading on a terminal, and one line elsewhere.
                console.print(line, soft_wrap=not console.is_terminal)


@app.command(epilog=EXIT_CODES_HELP)
@with_access
def load(
    name: Name,
    version: Annotated[
        str, typer.Option(help="A number or a label. [default: what the version policy says]")
    ] = "",
    evict_idle: Annotated[
        bool, typer.Option("--evict-idle", help="Unload what nobody uses if memory is short.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Reload what is loaded with the same files.")
    ] = False,
    *,
    access: ServerAccess,
    timeout: Annotated[
        float | None, typer.Option(min=0.0, help="Seconds to wait; the load goes on after that.")
    ] = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Loads a model, or one version of it, and waits until it serves.

    Ctrl-C ends the waiting, not the load; `darkroom models unload` cancels a load.
    """
    view = load_view_for(Console(stderr=True), quiet=quiet)
    with one_line_errors():
        with access.connect() as client, view:
            model = client.load_model(
                name,
                version=version,
                evict_idle=evict_idle,
                force_reload=force,
                timeout=timeout,
                on_progress=view.show,
            )
        _print_model(model, as_json=as_json, quiet=quiet)


@app.command(epilog=EXIT_CODES_HELP)
@with_access
def unload(
    name: Name,
    version: Annotated[str, typer.Option(help="A number or a label. [default: all]")] = "",
    drain: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Seconds that running requests may take to end. [default: as long as they need]",
        ),
    ] = None,
    *,
    access: ServerAccess,
    timeout: Annotated[
        float | None, typer.Option(min=0.0, help="Seconds to wait; it goes on after that.")
    ] = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Unloads a model, or one version of it, and waits until it has left."""
    with one_line_errors():
        with access.connect() as client:
            model = client.unload_model(name, version=version, drain_s=drain, timeout=timeout)
        _print_model(model, as_json=as_json, quiet=quiet)


@app.command(epilog=EXIT_CODES_HELP)
@with_access
def label(
    name: Name,
    label: Annotated[str, typer.Argument(show_default=False)],
    version: Annotated[str, typer.Argument(show_default=False)] = "",
    delete: Annotated[bool, typer.Option("--delete", help="Take the label away.")] = False,
    traffic: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=100.0,
            metavar="PERCENT",
            help="Share of the requests naming no version that the label is given. "
            "[default: as it was]",
        ),
    ] = None,
    *,
    access: ServerAccess,
    timeout: options.Timeout = 10.0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Points LABEL at VERSION, a number or another label, that serves.

    Requests without a version get the label `stable`: moving it back is the way back.
    """
    if bool(version) is delete or (delete and traffic is not None):
        raise click.UsageError("give a VERSION, or --delete")
    with one_line_errors():
        with access.connect() as client:
            if delete:
                model = client.delete_version_label(name, label, timeout=timeout)
            else:
                model = client.set_version_label(
                    name, label, version, traffic_percent=traffic, timeout=timeout
                )
        _print_model(model, as_json=as_json, quiet=quiet)


@app.command(epilog=EXIT_CODES_HELP)
@with_access
def watch(
    interval: Annotated[
        float,
        typer.Option(min=0.1, max=3600.0, help="Seconds between two updates."),
    ] = 1.0,
    *,
    access: ServerAccess,
) -> None:
    """Shows every version of every model and what becomes of it, until Ctrl-C.

    Where no terminal is, it prints a line for each version, and again whenever that changes.
    """
    view: Watch = watch_for(Console())
    found: list[Model] = []
    # Ctrl-C is the usual way to end it.
    with (
        one_line_errors(),
        contextlib.suppress(KeyboardInterrupt),
        access.connect(max_attempts=1) as client,
        view,
    ):
        while True:
            notice = ""
            try:
                found = client.list_models(timeout=WATCH_TIMEOUT_S)
            except (Unavailable, DeadlineExceeded) as error:
                # A server that restarts is worth watching too.
                notice = str(error)
            view.show(found, notice)
            time.sleep(interval)


def _list(access: ServerAccess, timeout: float | None, *, as_json: bool) -> None:
    with one_line_errors():
        with access.connect() as client:
            found = client.list_models(timeout=timeout)
        if as_json:
            typer.echo(json.dumps([json_of(model) for model in found]))
        else:
            console = Console()
            print_columns(console, model_table(found))
            if console.is_terminal and any(model.versions for model in found):
                print_line(console, Text(VERSION_MARKS, style="dim"))


def _print_model(model: Model, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        typer.echo(json.dumps(json_of(model)))
    elif not quiet:
        print_columns(Console(), version_table([model]))
