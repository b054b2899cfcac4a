"""The `darkroom` command. Each subcommand's module is imported when it is asked for, not before."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import os
import sys
from dataclasses import dataclass
from typing import Annotated

import click
import typer
from click.shell_completion import CompletionItem
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: the `module:function`, or the `module:app` of a group, behind it, and its line
    in the list of commands.
    """

    target: str
    summary: str


#: In the order of the help.
COMMANDS = {
    "generate": Command("darkroom_server.cli.images:generate", "Makes images of a prompt."),
    "fill": Command("darkroom_server.cli.images:fill", "Repaints a part of an image."),
    "examples": Command("darkroom_server.cli.examples:examples", "Shows prompts to try."),
    "models": Command("darkroom_server.cli.models:app", "Lists, loads and unloads models."),
    "pull": Command("darkroom_server.cli.pull:pull", "Fetches a model from a hub."),
    "export": Command("darkroom_server.cli.export:export", "Exports a denoiser."),
    "profile": Command("darkroom_server.cli.profile:profile_command", "Measures denoisers."),
    "serve": Command("darkroom_server.cli.serve:serve", "Runs the server."),
    "keys": Command("darkroom_server.cli.keys:app", "Makes, lists and revokes API keys."),
    "config": Command("darkroom_server.cli.config_show:app", "Shows the server's settings."),
    "doctor": Command(
        "darkroom_server.cli.doctor:doctor", "Says what keeps a server from serving."
    ),
    "check-repo": Command("darkroom_server.cli.repository:check_repo", "Checks a repository."),
}


class _Single(TyperCommand):
    """A command whose error says what is missing where a prompt has no quotes."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does it."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            takes_prompt = any(each.name == "prompt" for each in self.params)
            if takes_prompt and "unexpected extra argument" in error.message:
                words = f"{error.message}; put a prompt of several words in quotes"
                raise click.UsageError(words, ctx) from error
            raise


class LazyGroup(TyperGroup):
    """A group whose commands are imported by name: `generate` never loads the server."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All names, whether imported or not."""
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        """The command of that name, imported now; None when there is none."""
        command = COMMANDS.get(cmd_name)
        if command is None:
            return None
        module_name, _, function_name = command.target.partition(":")
        module = importlib.import_module(module_name)
        target = getattr(module, function_name)
        if isinstance(target, typer.Typer):
            group = typer.main.get_command(target)
            group.name = cmd_name
            return group
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        register = single.command(cmd_name, cls=_Single, epilog=getattr(module, "EPILOG", None))
        register(target)
        return typer.main.get_command(single)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The first argument's command; the error for an unknown one suggests the nearest."""
        close = difflib.get_close_matches(args[0], COMMANDS, n=1)
        if close and args[0] not in COMMANDS:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {close[0]!r}?")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands that begin so, still without importing them, and the options."""
        commands = [
            CompletionItem(name, help=each.summary)
            for name, each in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        """Writes the list of commands, still without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.summary) for name, each in COMMANDS.items()])


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"darkroom {importlib.metadata.version('darkroom-server')}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def darkroom(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Say the version."),
    ] = False,
) -> None:
    """Makes images: a gRPC service and the commands that use it."""


def main() -> None:
    """Runs the command; never returns normally."""
    from darkroom_server.telemetry.unreported import report_nothing

    report_nothing()
    # What gRPC's C library writes to stderr by itself says less than the one line of the command.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        app(prog_name="darkroom")
    except OSError as error:
        from darkroom_server.cli.exits import ExitCode, file_problem

        # Errors that a command does not handle itself: usually that nothing reads its output.
        typer.echo(f"darkroom: {file_problem(error, 'standard output')}", err=True)
        sys.exit(ExitCode.FILE_ERROR)


if __name__ == "__main__":
    main()
