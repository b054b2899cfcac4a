"""`darkroom keys`: makes, lists and revokes API keys."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from darkroom_server.access.key_format import NewKey, new_key
from darkroom_server.access.keys_file import (
    MAX_CREDITS,
    MAX_WEIGHT,
    MIN_WEIGHT,
    KeysFileError,
    add_key,
    check_rate_limit,
    read_keys,
    revoke_key,
)
from darkroom_server.access.ledger import LedgerError, read_spent, spent_path
from darkroom_server.access.redis_ledger import read_shared_spent
from darkroom_server.cli.exits import ExitCode, file_problem
from darkroom_server.cli.tables import Columns, print_columns
from darkroom_server.domain.errors import LimitsUnavailable
from darkroom_server.domain.keys import PIXEL_STEPS_PER_CREDIT, ApiKey, Permission, in_credits

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Makes, lists and revokes the keys that `darkroom serve --keys-file` asks callers for.",
)

KeysFile = Annotated[
    Path,
    typer.Option(envvar="DARKROOM_KEYS_FILE", help="File of the keys; made by the first `create`."),
]
DEFAULT_FILE = Path("keys.toml")


def _rate(text: str) -> str:
    try:
        return check_rate_limit(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _finite(value: float | None) -> float | None:
    """What no range refuses: the word nan is read as a number."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is no number")
    return value


@app.command()
def create(
    name: Annotated[str, typer.Argument(show_default=False)],
    keys_file: KeysFile = DEFAULT_FILE,
    allow: Annotated[
        list[Permission] | None,
        typer.Option(help="What it may do; can be repeated. [default: generate, fill]"),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Models it may use, as tiny-* or by hub id; can be repeated. [all]"),
    ] = None,
    rate_limit: Annotated[
        str | None,
        typer.Option(parser=_rate, metavar="RATE", help="As 60/minute, or 5/second; 1000/day."),
    ] = None,
    concurrent: Annotated[
        int | None, typer.Option(min=1, help="How many of its requests may run at a time.")
    ] = None,
    credits: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=MAX_CREDITS,
            callback=_finite,
            help="Its budget in megapixel-steps: 20 steps of 1024x1024 px take 21.",
        ),
    ] = None,
    weight: Annotated[
        float,
        typer.Option(
            min=MIN_WEIGHT,
            max=MAX_WEIGHT,
            callback=_finite,
            help="Its part of a busy device: with 2 twice as much as a key with 1.",
        ),
    ] = 1.0,
) -> None:
    """Makes a key, says it on stdout this once, and adds what the server needs to the file.

    NAME says whom it is for. A running server accepts the key within a second or two.
    """
    made = new_key()
    budget = None if credits is None else round(credits * PIXEL_STEPS_PER_CREDIT)
    key = ApiKey(
        id=made.id,
        name=name,
        sha256=made.sha256,
        permissions=frozenset(allow or (Permission.GENERATE, Permission.FILL)),
        models=tuple(model or ("*",)),
        rate_limit=rate_limit,
        max_concurrent_requests=concurrent,
        budget_pixel_steps=budget,
        weight=weight,
    )
    with _one_line_errors():
        add_key(keys_file, key)
        typer.echo(f"Key {key.id} for {name}, in {keys_file}. It is shown only now:", err=True)
        _show(made, keys_file)


@app.command("list")
def list_keys(
    keys_file: KeysFile = DEFAULT_FILE,
    limits_storage: Annotated[
        str,
        typer.Option(
            envvar="DARKROOM_LIMITS_STORAGE", help="Where the server counts: memory or redis://…"
        ),
    ] = "memory",
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
) -> None:
    """Lists the keys, what they allow and what they have spent; never the keys themselves."""
    with _one_line_errors():
        keys = read_keys(keys_file)
        if limits_storage == "memory":
            spent = read_spent(spent_path(keys_file))
        else:
            spent = asyncio.run(read_shared_spent(limits_storage, [key.id for key in keys]))
    if as_json:
        typer.echo(json.dumps([_as_json(key, spent) for key in keys]))
    else:
        print_columns(Console(), _table(keys, spent))


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    keys_file: KeysFile = DEFAULT_FILE,
) -> None:
    """Ends a key, by its id (the part between dk_ and the second _); what runs is finished.

    A running server refuses the key within a second or two.
    """
    with _one_line_errors():
        key = revoke_key(keys_file, key_id)
    typer.echo(f"Key {key.id} for {key.name} is revoked.")


def _show(made: NewKey, keys_file: Path) -> None:
    """Says the key; one that nobody has seen is of no use, and is revoked. Raises OSError."""
    try:
        typer.echo(made.text)
    except OSError as error:
        revoke_key(keys_file, made.id)
        unseen = f"{error.strerror}; key {made.id} could not be shown and was revoked"
        raise OSError(error.errno, unseen, "standard output") from error


def _table(keys: tuple[ApiKey, ...], spent: Mapping[str, int]) -> Columns:
    headings = ("id", "name", "may", "models", "rate", "at a time", "weight", "credits spent", "of")
    table = Columns(headings)
    for key in keys:
        budget = key.budget_pixel_steps
        table.add(
            key.id,
            key.name,
            "revoked" if key.is_revoked else ", ".join(_permissions(key)),
            ", ".join(key.models),
            key.rate_limit or "-",
            str(key.max_concurrent_requests or "-"),
            f"{key.weight:g}",
            f"{in_credits(spent.get(key.id, 0)):,.1f}",
            "-" if budget is None else f"{in_credits(budget):,.1f}",
        )
    return table


def _permissions(key: ApiKey) -> list[str]:
    return sorted(permission.value for permission in key.permissions)


def _as_json(key: ApiKey, spent: Mapping[str, int]) -> dict[str, object]:
    budget = key.budget_pixel_steps
    return {
        "id": key.id,
        "name": key.name,
        "permissions": _permissions(key),
        "models": list(key.models),
        "rate_limit": key.rate_limit,
        "concurrent_requests": key.max_concurrent_requests,
        "weight": key.weight,
        "credits": None if budget is None else in_credits(budget),
        "credits_spent": in_credits(spent.get(key.id, 0)),
        "revoked": key.is_revoked,
    }


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (KeysFileError, LedgerError, LimitsUnavailable) as error:
        problem = str(error)
    except OSError as error:
        problem = file_problem(error)
    else:
        return
    typer.echo(f"darkroom keys: {problem}", err=True)
    raise typer.Exit(ExitCode.FILE_ERROR)
