from __future__ import annotations

import json
from pathlib import Path

import pytest

from darkroom_server.access.account import Balance
from darkroom_server.access.ledger import FileLedger, LedgerError, read_spent, spent_path
from darkroom_server.domain.errors import InsufficientCredits
from tests.unit.access.example_keys import api_key

KEY = api_key(budget_pixel_steps=100)


async def test_what_was_spent_outlives_the_server_and_what_was_reserved_does_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "keys.toml.spent.json"
    ledger = FileLedger(path)
    await ledger.reserve(KEY, "a", 40)
    await ledger.reserve(KEY, "b", 50)
    ledger.settle(KEY.id, "a", 30)
    assert await ledger.balance(KEY) == Balance(spent=30, left=20)
    await ledger.close()
    again = FileLedger(path)
    assert await again.balance(KEY) == Balance(spent=30, left=70)
    await again.close()


async def test_settling_twice_charges_once(tmp_path: Path) -> None:
    ledger = FileLedger(tmp_path / "spent.json")
    await ledger.reserve(KEY, "a", 40)
    for _ in range(3):
        ledger.settle(KEY.id, "a", 40)
    await ledger.close()
    assert read_spent(tmp_path / "spent.json") == {KEY.id: 40}


async def test_what_is_reserved_cannot_be_spent_again(tmp_path: Path) -> None:
    ledger = FileLedger(tmp_path / "spent.json")
    await ledger.reserve(KEY, "a", 60)
    with pytest.raises(InsufficientCredits):
        await ledger.reserve(KEY, "b", 60)
    await ledger.close()


async def test_two_servers_do_not_count_in_one_file(tmp_path: Path) -> None:
    ledger = FileLedger(tmp_path / "spent.json")
    with pytest.raises(LedgerError, match="--limits-storage redis"):
        FileLedger(tmp_path / "spent.json")
    await ledger.close()
    await FileLedger(tmp_path / "spent.json").close()


@pytest.mark.parametrize(
    "content", ["", "[]", '{"spent_pixel_steps": 3}', '{"spent_pixel_steps": {"a": "much"}}']
)
def test_a_spoilt_file_is_no_reason_to_begin_again_at_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "spent.json"
    path.write_text(content)
    with pytest.raises(LedgerError, match="put a good copy there"):
        read_spent(path)


def test_the_file_is_beside_the_keys(tmp_path: Path) -> None:
    assert spent_path(tmp_path / "keys.toml") == tmp_path / "keys.toml.spent.json"


async def test_a_write_that_fails_goes_with_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "spent.json"
    ledger = FileLedger(path)
    aside = folder.rename(tmp_path / "aside")
    await ledger.reserve(KEY, "a", 10)
    ledger.settle(KEY.id, "a", 10)
    await ledger.written()
    aside.rename(folder)
    await ledger.reserve(KEY, "b", 5)
    ledger.settle(KEY.id, "b", 5)
    await ledger.close()
    assert json.loads(path.read_text()) == {"spent_pixel_steps": {KEY.id: 15}}
