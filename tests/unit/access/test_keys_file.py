from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from darkroom_server.access.key_format import new_key
from darkroom_server.access.keys_file import KeysFileError, add_key, read_keys, revoke_key
from darkroom_server.domain.keys import Permission
from tests.unit.access.example_keys import api_key

HASH = "0" * 64
GOOD = f'[[keys]]\nid = "one"\nsha256 = "{HASH}"\npermissions = ["generate"]\n'


@pytest.mark.parametrize("name", ["keys.toml", "keys.json"])
def test_what_was_added_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    keys = [
        api_key(),
        api_key(
            permissions=frozenset(Permission),
            models=("tiny-*", "org/name"),
            rate_limit="5/second; 1000/day",
            max_concurrent_requests=2,
            budget_pixel_steps=1_500_000,
        ),
    ]
    for key in keys:
        add_key(path, key)
    assert list(read_keys(path)) == keys
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["keys.toml", "keys.json"])
def test_a_revoked_key_stays_in_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    first, second = api_key(), api_key()
    add_key(path, first)
    add_key(path, second)
    assert revoke_key(path, first.id) == first
    assert [key.is_revoked for key in read_keys(path)] == [True, False]


def test_comments_outlive_an_edit(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(f"# ask the web team first\n{GOOD}")
    add_key(path, api_key())
    revoke_key(path, "one")
    assert path.read_text().startswith("# ask the web team first\n")
    assert [key.is_revoked for key in read_keys(path)] == [True, False]


def test_a_key_is_never_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    made = new_key()
    add_key(path, api_key(made))
    assert made.text.split("_")[2] not in path.read_text()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param("[[keys]", "Expected", id="no-toml"),
        pytest.param(GOOD + "credit = 3\n", "keys.0.credit: Extra inputs", id="unknown-setting"),
        pytest.param(GOOD + 'rate_limit = "often"\n', "'often' is no rate such as", id="rate"),
        pytest.param(GOOD + "credits = -1\n", "keys.0.credits: ", id="credits"),
        pytest.param(GOOD + "concurrent_requests = 0\n", "concurrent_requests", id="concurrency"),
        pytest.param(GOOD.replace("generate", "draw"), "permissions.0: ", id="permission"),
        pytest.param(GOOD.replace(HASH, "secret"), "keys.0.sha256: ", id="hash"),
        pytest.param(GOOD + GOOD, "more than one key has the id one", id="twice"),
        pytest.param("\0", "", id="no-text"),
        pytest.param("keys = " + "[" * 100_000, "recursion", id="too-deep"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(content)
    with pytest.raises(KeysFileError) as caught:
        read_keys(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_keys_made_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    keys = [api_key() for _ in range(12)]
    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(add_key, path, key) for key in keys]:
            done.result()
    assert {key.id for key in read_keys(path)} == {key.id for key in keys}


def test_nothing_is_added_to_a_file_that_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [{"id": "one"}]}))
    before = path.read_text()
    with pytest.raises(KeysFileError):
        add_key(path, api_key())
    assert path.read_text() == before


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeysFileError, match="No such file"):
        read_keys(tmp_path / "keys.toml")
    add_key(tmp_path / "keys.toml", api_key())
    with pytest.raises(KeysFileError, match="no key has the id nobody"):
        revoke_key(tmp_path / "keys.toml", "nobody")


def test_a_key_may_have_a_weight(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(GOOD + "weight = 3.0\n")
    assert [key.weight for key in read_keys(path)] == [3.0]
    path.write_text(GOOD + "weight = 0\n")
    with pytest.raises(KeysFileError, match=r"keys\.0\.weight"):
        read_keys(path)
