from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from darkroom_server.access.key_format import NewKey, new_key
from darkroom_server.access.keyring import KeyRing
from darkroom_server.access.keys_file import add_key, revoke_key
from darkroom_server.domain.errors import InvalidApiKey
from tests.unit.access.example_keys import api_key


@pytest.fixture
def made() -> NewKey:
    return new_key()


@pytest.fixture
def file(tmp_path: Path, made: NewKey) -> Path:
    path = tmp_path / "keys.toml"
    add_key(path, api_key(made))
    return path


def test_a_key_is_found(file: Path, made: NewKey) -> None:
    assert KeyRing(file).find(made.text).id == made.id


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("hf_something", "is no key of this service", id="another-service's"),
        pytest.param(new_key().text, "not known", id="unknown"),
    ],
)
def test_others_are_not_and_are_not_repeated(file: Path, text: str, problem: str) -> None:
    with pytest.raises(InvalidApiKey, match=problem) as caught:
        KeyRing(file).find(text)
    assert text not in str(caught.value)


def test_the_right_id_with_another_secret_is_not_enough(file: Path, made: NewKey) -> None:
    other = new_key()
    add_key(file, api_key(NewKey(other.id, made.text)))
    with pytest.raises(InvalidApiKey, match="not known"):
        KeyRing(file).find(other.text)


def test_changes_count_without_a_restart(file: Path, made: NewKey) -> None:
    ring = KeyRing(file)
    added = new_key()
    add_key(file, api_key(added))
    ring.refresh()
    assert ring.find(added.text).id == added.id
    revoke_key(file, made.id)
    ring.refresh()
    with pytest.raises(InvalidApiKey, match=f"{made.id} was revoked"):
        ring.find(made.text)


@pytest.mark.parametrize("broken", ["[[keys]", None], ids=["no-toml", "gone"])
def test_a_broken_edit_keeps_the_keys_before_it_and_is_logged_once(
    file: Path, made: NewKey, broken: str | None
) -> None:
    ring = KeyRing(file)
    good = file.read_text()
    if broken is None:
        file.unlink()
    else:
        file.write_text(broken)
    with capture_logs() as logged:
        ring.refresh()
        ring.refresh()
    assert ring.find(made.text).id == made.id
    assert [entry["log_level"] for entry in logged] == ["error"]
    assert str(file) in logged[0]["problem"]
    file.write_text(good.replace("somebody", "repaired"))
    ring.refresh()
    assert ring.find(made.text).name == "repaired"
