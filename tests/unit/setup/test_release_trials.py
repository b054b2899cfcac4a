"""What a trial of the packages looks at."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from setup import go_module
from setup.release_index import index_of
from setup.release_trials import clean_environment


def test_an_index_remembers_what_it_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "some_thing-1.0-py3-none-any.whl").write_bytes(b"no wheel")
    with index_of(tmp_path) as index:
        for name in ("some-thing", "darkroom-proto"):
            command = [sys.executable, "-m", "pip", "download", "--no-cache-dir"]
            command += ["--index-url", index.url, "-d", str(tmp_path / "out"), name]
            environment = clean_environment(PIP_CONFIG_FILE=os.devnull)
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, check=False
            )
            # What is there is taken, and found to be no wheel; the other is not there.
            assert ("No matching distribution" in done.stderr) == (name == "darkroom-proto")
        assert index.asked >= {"some-thing", "darkroom-proto"}


def test_a_clean_environment_says_nothing_of_python_or_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("DARKROOM_HOST", "0.0.0.0")
    found = clean_environment(HOME="/home")
    assert "PATH" in found
    assert not {"PYTHONPATH", "DARKROOM_HOST"} & found.keys()
    assert found["HOME"] == "/home"


def test_go_s_module_asks_for_what_the_client_imports() -> None:
    described = go_module.go_mod()
    imported = {
        line.strip().strip('"')
        for file in (go_module.Path(__file__).parents[3] / "clients/go").rglob("*.go")
        for line in file.read_text().splitlines()
        if line.strip().startswith('"') and "." in line.split("/")[0]
    }
    assert imported
    for package in imported:
        assert any(package.startswith(name) for name in go_module.NEEDS), package
    for name, (version, _) in go_module.NEEDS.items():
        assert f"\t{name} {version}\n" in described
