from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from darkroom_server.cli.main import app
from darkroom_server.config import load_config


def shown(*flags: str) -> str:
    done = CliRunner().invoke(app, ["config", "show", *flags])
    assert done.exit_code == 0, done.output
    return done.output


def test_each_setting_has_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "darkroom.toml"
    file.write_text('host = "::1"\ngrpc_port = 1\nhttp_port = 2\n')
    monkeypatch.setenv("DARKROOM_GRPC_PORT", "3")
    monkeypatch.setenv("DARKROOM_HTTP_PORT", "4")
    lines = shown("--config", str(file), "--http-port", "5", "--changed").splitlines()
    told = {line.split(" = ")[0]: line.split("#")[1].strip() for line in lines}
    assert told == {"host": str(file), "grpc_port": "DARKROOM_GRPC_PORT", "http_port": "flag"}
    values = tomllib.loads("\n".join(lines))
    assert values == {"host": "::1", "grpc_port": 3, "http_port": 5}


def test_what_is_shown_is_a_file_with_the_same_settings(tmp_path: Path) -> None:
    file = tmp_path / "darkroom.toml"
    file.write_text(shown("--alias", "a=b", "--grpc-port", "9"))
    again = load_config({}, file=file, environment={})
    given = {"aliases": {"a": "b"}, "grpc_port": 9}
    assert again.model_dump() == load_config(given, file=None, environment={}).model_dump()


def test_a_password_is_not_shown() -> None:
    assert "geheim" not in shown("--limits-storage", "redis://us:geheim@redis:6379/0")


def test_settings_that_are_none_are_told() -> None:
    done = CliRunner().invoke(app, ["config", "show", "--grpc-port", "-1"])
    assert (done.exit_code, "grpc_port" in done.output) == (2, True)
