"""A scripted server and a way to run the command against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from darkroom_server.cli.main import app
from tests.integration.clients.scripted_server import ScriptedServer

Darkroom = Callable[..., Result]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def darkroom(server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Darkroom:
    """Runs `darkroom` in an empty folder with the scripted server as its default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DARKROOM_SERVER", server.address)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments), prog_name="darkroom")

    return run
