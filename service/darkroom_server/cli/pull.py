"""`darkroom pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from darkroom_server.cli.exits import ExitCode
from darkroom_server.models.hub import HubError
from darkroom_server.models.pull import model_name
from darkroom_server.models.pull import pull as pull_model

EPILOG = (
    "HF_TOKEN gives a token, HF_ENDPOINT another hub. Run it again to go on after an interruption. "
    "Exit codes: 0 done, 1 it could not be fetched, 130 interrupted."
)


def pull(
    repo_id: Annotated[
        str, typer.Argument(metavar="REPO", help="A model on the hub: ORGANISATION/NAME.")
    ],
    name: Annotated[
        str | None, typer.Option("--as", help="The model's folder. [default: from REPO]")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit. [default: main]")
    ] = None,
    model_repository: Annotated[Path, typer.Option(help="Folder of the models.")] = Path(
        "model_repo"
    ),
) -> None:
    """Fetches a diffusers pipeline from a hub as the next version of a model.

    Only safetensors, configs and vocabularies are fetched, never pickles or code.
    """
    folder = name or model_name(repo_id)
    if not folder or "/" in folder or folder.startswith("."):
        raise typer.BadParameter("is not a folder's name", param_hint="--as")
    try:
        model_repository.mkdir(parents=True, exist_ok=True)
        pulled = pull_model(
            model_repository, repo_id, name=folder, revision=revision, say=typer.echo
        )
    except HubError as error:
        typer.echo(f"darkroom pull: {error}", err=True)
        raise typer.Exit(ExitCode.FILE_ERROR) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        typer.echo(f"darkroom pull: {where}{error.strerror or error}", err=True)
        raise typer.Exit(ExitCode.FILE_ERROR) from None
    except KeyboardInterrupt:
        typer.echo("darkroom pull: interrupted; the same command goes on from here", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    said = "is now" if pulled.is_new else "was there already as"
    typer.echo(f"{repo_id} {said} {model_repository / pulled.model}/{pulled.version}")
