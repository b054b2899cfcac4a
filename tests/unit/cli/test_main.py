"""The `darkroom` command itself."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from darkroom_server.cli.main import COMMANDS, app


def test_the_version_is_told() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    name, version = result.stdout.split()
    assert name == "darkroom"
    assert version[0].isdigit()


@pytest.mark.parametrize(
    ("misspelt", "told"),
    [
        pytest.param("generrate", "'generrate'. Did you mean 'generate'?", id="near-one"),
        pytest.param("xyz", "'xyz'.", id="near-none"),
    ],
)
def test_an_unknown_command_is_wrong_usage(misspelt: str, told: str) -> None:
    result = CliRunner().invoke(app, [misspelt])
    assert result.exit_code == 2
    assert result.stderr.rstrip().endswith(f"No such command {told}")


@pytest.mark.parametrize(
    "arguments", [("generate", "a", "cat"), ("fill", "a.png", "b.png", "a", "cat")], ids=" ".join
)
def test_a_prompt_without_quotes_is_told_of_them(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "extra argument (cat); put a prompt of several words in quotes" in result.stderr


def test_what_takes_no_prompt_says_nothing_of_quotes() -> None:
    result = CliRunner().invoke(app, ["doctor", "a", "b", "c"])
    assert result.exit_code == 2
    assert "quotes" not in result.stderr


@pytest.mark.parametrize(
    ("server", "told"),
    [
        pytest.param("http://127.0.0.1:8001", "is a URL; give HOST:PORT", id="url"),
        pytest.param("localhost", "has no port; give HOST:PORT", id="host"),
        pytest.param("[::1]", "has no port; give HOST:PORT", id="ipv6"),
    ],
)
@pytest.mark.parametrize("command", ["generate", "examples", "models"])
def test_a_server_that_grpc_would_look_for_elsewhere_is_wrong_usage(
    command: str, server: str, told: str
) -> None:
    prompt = ["a cat"] if command == "generate" else []
    result = CliRunner().invoke(app, [command, *prompt, "--server", server])
    assert result.exit_code == 2
    assert f"{server!r} {told}" in result.stderr


@pytest.mark.parametrize("command", ["generate", "fill", "models"])
def test_every_client_command_documents_its_exit_codes(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Exit codes: 0 done" in result.stdout


@pytest.mark.parametrize("arguments", ["--help", "generate --help", "models --help"])
def test_a_client_command_does_not_import_the_server(arguments: str) -> None:
    # The options' help is in the table of parameters, which needs the standard library alone.
    program = (
        "import sys\n"
        "PLAIN_VALUES = ('darkroom_server.parameters', 'darkroom_server.domain')\n"
        "from typer.testing import CliRunner\n"
        "from darkroom_server.cli.main import app\n"
        "assert CliRunner().invoke(app, sys.argv[1:]).exit_code == 0\n"
        "print([name for name in sys.modules if name.startswith('darkroom_server.')"
        " and not name.startswith(('darkroom_server.cli', *PLAIN_VALUES))],"
        " 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments.split()],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[] False\n"


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        pytest.param("darkroom ge", "generate", id="command"),
        pytest.param("darkroom models lo", "load", id="command-of-a-group"),
        pytest.param("darkroom generate --neg", "--negative", id="option"),
    ],
)
def test_a_shell_completes_commands_and_options(words: str, completed: str) -> None:
    environment = {
        "_DARKROOM_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    result = CliRunner().invoke(app, prog_name="darkroom", env=environment)
    assert completed in result.stdout.split()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_lists_every_command(command: str) -> None:
    assert f"  {command} " in CliRunner().invoke(app, ["--help"]).stdout
