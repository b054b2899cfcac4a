"""`darkroom examples`: prompts that the server's models draw well, as commands to copy."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import typer

from darkroom_client import Model, Task
from darkroom_server.cli import options
from darkroom_server.cli.access import ServerAccess, with_access
from darkroom_server.cli.exits import EXIT_CODES_HELP, one_line_errors

EPILOG = EXIT_CODES_HELP

#: For models that read any text; those of a small vocabulary name their own.
_ANY_TEXT = (
    "a lighthouse on a cliff at sunset",
    "a fox in the snow, watercolour",
    "an isometric cutaway of a bakery",
)


@with_access
def examples(*, access: ServerAccess, timeout: options.Timeout = 10.0) -> None:
    """Shows prompts to try with each of the server's models, as commands to copy."""
    with one_line_errors():
        with access.connect() as client:
            found = client.list_models(timeout=timeout)
        for line in _lines(found):
            typer.echo(line)


def _lines(found: list[Model]) -> Iterator[str]:
    if not found:
        yield "This server has no model yet."
    for i, model in enumerate(found):
        if i:
            yield ""
        name = model.name.removeprefix("models/")
        words = f" ({len(model.vocabulary)} words; darkroom models show {name})"
        yield f"# {name}{words if model.vocabulary else ''}"
        command = _command(model)
        for prompt in model.example_prompts or _ANY_TEXT:
            yield f"{command} {shlex.quote(prompt)} --model {name}"


def _command(model: Model) -> str:
    if Task.TEXT_TO_IMAGE in model.tasks:
        return "darkroom generate"
    if Task.EDIT in model.tasks:
        return "darkroom generate --reference IMAGE"
    if Task.FILL not in model.tasks:
        return "darkroom generate"
    return "darkroom fill IMAGE MASK"
