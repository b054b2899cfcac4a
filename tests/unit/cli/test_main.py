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
