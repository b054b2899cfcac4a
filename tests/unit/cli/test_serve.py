"""What `darkroom serve` says when it cannot start: one line, no traceback."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from darkroom_server.cli.main import app
from darkroom_server.config import CONFIG_VARIABLE
from darkroom_server.telemetry.logs import LOG_FORMAT_VARIABLE, LOG_LEVEL_VARIABLE


@pytest.fixture(autouse=True)
def process_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sets up the process that it runs in; other tests run in the same."""
    for variable in (CONFIG_VARIABLE, LOG_FORMAT_VARIABLE, LOG_LEVEL_VARIABLE):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    monkeypatch.setattr("darkroom_server.cli.serve.configure_logs", lambda: None)


@pytest.mark.parametrize(
    "content",
    [pytest.param(b"grpc_port = = 3", id="no-toml"), pytest.param(b"\xff\xfe", id="no-text")],
)
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "darkroom.toml"
    file.write_bytes(content)
    result = CliRunner().invoke(app, ["serve", "--config", str(file)])
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert line.startswith(f"darkroom serve: {file}: ")


@pytest.mark.parametrize("taken", ["grpc", "http"])
def test_a_port_that_is_taken_is_named(tmp_path: Path, taken: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        ports = {"grpc": "0", "http": "0", taken: port}
        result = CliRunner().invoke(
            app,
            [
                "serve",
                *("--model-repository", str(tmp_path)),
                *("--grpc-port", ports["grpc"], "--http-port", ports["http"]),
            ],
        )
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert port in line


@pytest.mark.parametrize("given", ["no-model", "=tiny", "name="])
def test_an_alias_that_is_no_pair_is_refused(given: str) -> None:
    result = CliRunner().invoke(app, ["serve", "--alias", given])
    assert result.exit_code == 2
    assert "NAME=MODEL" in result.stderr
