"""`darkroom models`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from darkroom_client import Model, ModelState, Task
from darkroom_server.cli import options
from darkroom_server.cli.access import ServerAccess
from darkroom_server.cli.exits import EXIT_CODES_HELP, one_line_errors

EPILOG = EXIT_CODES_HELP


def models(
    server: options.Server = options.DEFAULT_SERVER,
    api_key: options.ApiKey = None,
    tls: options.Tls = False,
    tls_ca: options.TlsCa = None,
    client_certificate: options.ClientCertificate = None,
    client_key: options.ClientKey = None,
    timeout: options.Timeout = 10.0,
    as_json: options.AsJson = False,
) -> None:
    """Lists the server's models: what they are called, what they can do, how they are."""
    with one_line_errors():
        access = ServerAccess(server, api_key, tls, tls_ca, client_certificate, client_key)
        with access.connect() as client:
            found = client.list_models(timeout=timeout)
        if as_json:
            typer.echo(json.dumps([_as_json(model) for model in found]))
        else:
            Console().print(_table(found))


def _table(found: Iterable[Model]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "state", "versions", "tasks", "default size", "memory"):
        table.add_column(heading, overflow="fold")
    for model in found:
        # Text: a model's own words are never read as markup.
        table.add_row(
            Text(model.name.removeprefix("models/")),
            Text(_state(model)),
            Text(", ".join(_version(model, each.version) for each in model.versions)),
            Text(", ".join(_task(task) for task in model.tasks)),
            Text(_size(model)),
            Text(_memory(model.memory_bytes)),
        )
    return table


def _state(model: Model) -> str:
    state = model.state.name.lower()
    return f"{state}: {model.state_message}" if model.state_message else state


def _version(model: Model, version: int) -> str:
    return f"{version}*" if version == model.default_version else str(version)


def _task(task: Task) -> str:
    return task.name.lower().replace("_", "-")


def _size(model: Model) -> str:
    width, height = model.parameter("width_px"), model.parameter("height_px")
    if width is None or height is None or not width.default_value or not height.default_value:
        return "-"
    return f"{width.default_value:.0f}x{height.default_value:.0f}"


def _memory(memory_bytes: int) -> str:
    return f"{memory_bytes / 2**20:,.0f} MiB" if memory_bytes else "-"


def _as_json(model: Model) -> dict[str, object]:
    values = asdict(model)
    values["tasks"] = [_task(task) for task in model.tasks]
    values["state"] = model.state.name.lower()
    for version in values["versions"]:
        state: ModelState = version["state"]
        version["state"] = state.name.lower()
        loaded = version["load_time"]
        version["load_time"] = loaded.isoformat() if loaded else None
    return values
