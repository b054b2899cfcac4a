"""`darkroom keys`: what it writes, shows and refuses."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from darkroom_server.access.key_format import digest_of, id_in
from darkroom_server.access.keys_file import read_keys
from darkroom_server.cli.main import app
from darkroom_server.kept_files import replace_file


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def keys(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments], prog_name="darkroom")


def test_a_key_is_said_once_and_alone_on_stdout() -> None:
    made = keys("create", "web team", "--credits", "2.5", "--model", "tiny-*", "--concurrent", "3")
    assert made.exit_code == 0
    text = made.stdout.strip()
    [key] = read_keys(Path("keys.toml"))
    assert (key.id, key.sha256) == (id_in(text), digest_of(text))
    assert (key.name, key.models, key.max_concurrent_requests) == ("web team", ("tiny-*",), 3)
    assert key.budget_pixel_steps == 2_500_000
    assert "shown only now" in made.stderr
    assert text not in made.stderr
    assert text.split("_")[2] not in keys("list").stdout


def test_the_list_shows_what_was_spent_and_what_was_revoked() -> None:
    first, second = (keys("create", name).stdout.split("_")[1] for name in ("[red]one", "two"))
    spent = json.dumps({"spent_pixel_steps": {first: 1_500_000}})
    replace_file(Path("keys.toml.spent.json"), spent)
    assert f"Key {second} for two is revoked." in keys("revoke", second).stdout
    shown = keys("list").stdout.splitlines()
    assert "[red]one" in shown[1]
    assert "1.5" in shown[1]
    assert "revoked" in shown[2]
    rows = json.loads(keys("list", "--json").stdout)
    assert [(row["id"], row["credits_spent"], row["revoked"]) for row in rows] == [
        (first, 1.5, False),
        (second, 0.0, True),
    ]


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_a_weight_is_written_listed_and_left_out_where_it_is_one(suffix: str) -> None:
    file = ("--keys-file", f"keys.{suffix}")
    for name, weight in (("heavy", ("--weight", "2.5")), ("plain", ())):
        assert keys("create", name, *file, *weight).exit_code == 0
    assert [key.weight for key in read_keys(Path(file[1]))] == [2.5, 1.0]
    assert Path(file[1]).read_text().count("weight") == 1
    rows = json.loads(keys("list", "--json", *file).stdout)
    assert [row["weight"] for row in rows] == [2.5, 1.0]
    assert "2.5" in keys("list", *file).stdout.splitlines()[1]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        pytest.param(("revoke", "nobody"), "keys.toml: no key has the id nobody", id="unknown"),
        pytest.param(("list", "--keys-file", "no.toml"), "no.toml: No such file", id="no-file"),
        pytest.param(
            ("create", "x", "--keys-file", "no/keys.toml"), "No such file", id="no-folder"
        ),
        pytest.param(
            ("list", "--limits-storage", "redis://127.0.0.1:1"), "looked up now", id="no-redis"
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(arguments: tuple[str, ...], problem: str) -> None:
    keys("create", "somebody")
    failed = keys(*arguments)
    assert failed.exit_code == 1
    [line] = failed.stderr.splitlines()
    assert line.startswith("darkroom keys: ")
    assert problem in line
    assert failed.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--rate-limit", "often"), "'often' is no rate such as 60/minute"),
        (("--allow", "draw"), "'draw' is not one of"),
        (("--credits", "-1"), "-1"),
        (("--concurrent", "0"), "0"),
        (("--weight", "0"), "0.01<=x<=100"),
        (("--weight", "101"), "0.01<=x<=100"),
        (("--weight", "nan"), "nan is no number"),
        (("--credits", "nan"), "nan is no number"),
    ],
)
def test_wrong_usage_is_refused(arguments: tuple[str, ...], problem: str) -> None:
    failed = keys("create", "somebody", *arguments)
    assert failed.exit_code == 2
    assert problem in failed.stderr
    assert not Path("keys.toml").exists()


def test_a_full_disk_is_said_with_the_file_and_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        del descriptor
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    made = keys("create", "web team")
    assert made.exit_code == 1
    assert made.stdout == ""
    assert made.stderr == (
        "darkroom keys: keys.toml: No space left on device; make room there, or write elsewhere\n"
    )
    assert not Path("keys.toml").exists()


def test_a_key_that_could_not_be_shown_is_revoked() -> None:
    with Path("/dev/full").open("w") as full:
        command = [str(Path(sys.executable).with_name("darkroom")), "keys", "create", "web team"]
        made = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    [key] = read_keys(Path("keys.toml"))
    assert key.is_revoked
    assert made.returncode == 1
    assert "Traceback" not in made.stderr
    assert f"standard output: No space left on device; key {key.id} could not be" in made.stderr
