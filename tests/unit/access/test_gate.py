from __future__ import annotations

from pathlib import Path

import pytest

from darkroom_server.access.gate import Gate, GateOptions, Need
from darkroom_server.access.key_format import new_key
from darkroom_server.access.keys_file import KeysFileError, add_key
from darkroom_server.domain.errors import InvalidApiKey, PermissionDenied
from darkroom_server.domain.keys import Permission
from tests.unit.access.example_keys import api_key


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


@pytest.mark.parametrize(
    "written", ["Bearer {}", "Bearer: {}", "bearer {}", " BEARER  {} ", "Bearer:{}"]
)
async def test_a_key_is_found_however_it_is_written(file: Path, written: str) -> None:
    made = new_key()
    add_key(file, api_key(made))
    gate = Gate(GateOptions(keys_file=file))
    assert gate.enter(written.format(made.text), Need.KEY).key.id == made.id
    await gate.stop()


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer ", "Basic dXNlcg==", "Bearer a b"])
async def test_anything_else_is_refused_and_what_to_send_is_said(
    file: Path, given: str | None
) -> None:
    add_key(file, api_key())
    gate = Gate(GateOptions(keys_file=file))
    with pytest.raises(InvalidApiKey, match="Bearer KEY"):
        gate.enter(given, Need.KEY)
    stranger = gate.enter(given, Need.NOTHING)
    for permission in Permission:
        with pytest.raises(PermissionDenied):
            stranger.require(permission)
    await gate.stop()


async def test_managing_needs_the_permission(file: Path) -> None:
    plain, manager = new_key(), new_key()
    add_key(file, api_key(plain))
    add_key(file, api_key(manager, permissions=frozenset({Permission.MANAGE})))
    gate = Gate(GateOptions(keys_file=file))
    assert gate.enter(f"Bearer {manager.text}", Need.MANAGE).key.id == manager.id
    with pytest.raises(PermissionDenied):
        gate.enter(f"Bearer {plain.text}", Need.MANAGE)
    await gate.stop()


async def test_without_a_file_everyone_may_do_everything() -> None:
    gate = Gate(GateOptions())
    for need in Need:
        caller = gate.enter("Bearer anything", need)
        for permission in Permission:
            caller.require(permission)
    await gate.stop()


async def test_a_file_that_is_not_there_is_an_error_and_not_an_open_door(file: Path) -> None:
    with pytest.raises(KeysFileError):
        Gate(GateOptions(keys_file=file))
