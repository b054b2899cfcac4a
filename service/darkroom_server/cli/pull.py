"""`darkroom pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from darkroom_server.cli.exits import ExitCode, file_problem
from darkroom_server.repository.catalogue import catalogue
from darkroom_server.repository.hub import HubError
from darkroom_server.repository.naming import NO_MODEL_NAME, is_model_name
from darkroom_server.repository.pull import Pulled, PullOrder, model_name
from darkroom_server.repository.pull import pull as pull_model
from darkroom_server.repository.pull_adapter import AdapterOrder, pull_adapter
from darkroom_server.repository.remote_store import is_url

EPILOG = (
    "HF_TOKEN gives a token, HF_ENDPOINT another hub. Run it again to go on after an interruption. "
    "Exit codes: 0 done, 1 it could not be fetched, 130 interrupted."
)


def pull(
    repo_id: Annotated[
        str | None, typer.Argument(metavar="REPO", help="A model on the hub: ORGANISATION/NAME.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--as", help="The folder that it gets. [default: from REPO]")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit. [default: main]")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="Weights of a variant, where there are some: fp16.")
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART=REPO",
            help="A part that is not published with the model, from another; may be repeated.",
        ),
    ] = None,
    adapter_of: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="REPO is an adapter (LoRA) of this model of yours."),
    ] = None,
    file: Annotated[
        str | None, typer.Option(help="Of an adapter's REPO with several files, which.")
    ] = None,
    model_repository: Annotated[str, typer.Option(help="Folder of the models.")] = "model_repo",
    list_known: Annotated[
        bool, typer.Option("--list", help="Show the models whose configs come with Darkroom.")
    ] = False,
) -> None:
    """Fetches a diffusers pipeline from a hub as the next version of a model, or an adapter of one.

    Only safetensors, configs and vocabularies are fetched, never pickles or code.
    """
    if list_known:
        _print_catalogue()
        return
    if repo_id is None:
        raise typer.BadParameter("name one; --list shows some", param_hint="REPO")
    if is_url(model_repository):
        message = "is a URL: pull into a folder, and upload that"
        raise typer.BadParameter(message, param_hint="--model-repository")
    root = Path(model_repository)
    folder = _folder(name, repo_id)
    order: PullOrder | AdapterOrder
    if adapter_of is None:
        if file is not None:
            raise typer.BadParameter("goes with --adapter-of", param_hint="--file")
        order = PullOrder(
            repo_id=repo_id,
            name=folder,
            revision=revision,
            variant=variant,
            parts=_parts(part or []),
        )
    else:
        if variant is not None or part:
            raise typer.BadParameter(
                "does not go with --variant, --part", param_hint="--adapter-of"
            )
        if not is_model_name(adapter_of):
            raise typer.BadParameter(NO_MODEL_NAME, param_hint="--adapter-of")
        order = AdapterOrder(
            repo_id=repo_id, model=adapter_of, name=folder, revision=revision, file=file
        )
    pulled = _pulled(root, order)
    said = "is now" if pulled.is_new else "was there already as"
    typer.echo(f"{repo_id} {said} {root / pulled.model}/{pulled.version}")


def _pulled(root: Path, order: PullOrder | AdapterOrder) -> Pulled:
    """Does it, or ends the command with what is wrong."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        if isinstance(order, AdapterOrder):
            return pull_adapter(root, order, say=typer.echo)
        return pull_model(root, order, say=typer.echo)
    except HubError as error:
        typer.echo(f"darkroom pull: {error}", err=True)
        raise typer.Exit(ExitCode.FILE_ERROR) from None
    except OSError as error:
        typer.echo(f"darkroom pull: {file_problem(error)}", err=True)
        raise typer.Exit(ExitCode.FILE_ERROR) from None
    except KeyboardInterrupt:
        typer.echo("darkroom pull: interrupted; the same command goes on from here", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _folder(name: str | None, repo_id: str) -> str:
    folder = name or model_name(repo_id)
    if not is_model_name(folder):
        raise typer.BadParameter(NO_MODEL_NAME, param_hint="--as")
    return folder


def _parts(given: list[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in given]
    for part, _, repo_id in pairs:
        if not part.isidentifier() or not repo_id:
            raise typer.BadParameter("is PART=REPO", param_hint="--part")
    return {part: repo_id for part, _, repo_id in pairs}


def _print_catalogue() -> None:
    """A line a model, and what should be known before it is fetched below it."""
    entries = catalogue()
    width = max(len(entry.repo_id) for entry in entries)
    for entry in entries:
        settings = entry.settings()
        defaults = settings.defaults
        size = f"{defaults.width_px}x{defaults.height_px}"
        typer.echo(
            f"{entry.repo_id:{width}}  {size:>9}  steps {defaults.step_count:>2}, "
            f"guidance {defaults.guidance_scale or 0:<3g}  {settings.license}"
        )
        if entry.note:
            typer.echo(f"    {entry.note}")
