"""The page's way to a new version and back, command by command as it stands there."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bench.serving import Server, connected, serving
from darkroom_client import Client

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"
DARKROOM = str(Path(sys.executable).with_name("darkroom"))
CONFIG = "backend: BACKEND_FAKE\n"
TWO = "version_policy { latest { num_versions: 2 } }\n"


def commands() -> list[list[str]]:
    block = PAGE.read_text().split("## A new version, and back")[1].split("```")[1]
    return [shlex.split(line) for line in block.strip().splitlines()]


def run(server: Server, command: list[str]) -> None:
    assert command[0] == "darkroom"
    asked = [DARKROOM, *command[1:], "--server", server.address]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def version_of_a_picture(client: Client) -> int:
    return client.generate("x", seed=1, steps=1).parameters.model_version


def add(repository: Path, version: int) -> None:
    folder = repository / "MODEL" / "new"
    folder.mkdir(parents=True)
    (folder / "weights").write_text(str(version))
    folder.rename(folder.with_name(str(version)))


@pytest.mark.parametrize("control", ["explicit", "poll"])
def test_a_version_is_deployed_and_taken_back(tmp_path: Path, control: str) -> None:
    add(tmp_path, 1)
    (tmp_path / "MODEL" / "config.pbtxt").write_text(CONFIG + (TWO if control == "poll" else ""))
    flags = ("--load-model", "*") if control == "explicit" else ("--repository-poll", "0.2")
    flags = (*flags, "--repository-settle", "0")
    label, load, deploy, back = commands()
    with (
        serving(tmp_path, "--model-control", control, *flags) as server,
        connected(server) as client,
    ):
        run(server, label)
        add(tmp_path, 2)
        if control == "explicit":
            run(server, load)
        server.until("model", model="MODEL/2", state="ready")
        assert version_of_a_picture(client) == 1
        run(server, deploy)
        assert version_of_a_picture(client) == 2
        run(server, back)
        assert version_of_a_picture(client) == 1


def test_without_two_versions_the_policy_is_the_way_back(tmp_path: Path) -> None:
    add(tmp_path, 1)
    config = tmp_path / "MODEL" / "config.pbtxt"
    config.write_text(CONFIG)
    flags = ("--model-control", "poll", "--repository-poll", "0.2", "--repository-settle", "0")
    with serving(tmp_path, *flags) as server, connected(server) as client:
        add(tmp_path, 2)
        server.until("model", model="MODEL/1", state="unloaded")
        assert version_of_a_picture(client) == 2
        mark = len(server.log)
        config.write_text(CONFIG + "version_policy { specific { versions: 1 } }\n")
        server.until("model", model="MODEL/2", state="unloaded", after=mark)
        assert version_of_a_picture(client) == 1
