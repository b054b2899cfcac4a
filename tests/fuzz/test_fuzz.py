"""A few inputs of every kind, and that the runner finds what is put in on purpose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.fuzz import __main__ as runner
from tests.fuzz.kinds import Kind, kinds

KINDS = kinds()


@pytest.mark.parametrize("kind", KINDS, ids=[one.name for one in KINDS])
def test_nothing_unforeseen(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CORPUS", tmp_path)
    counts, found, _ = runner.run(8 * kind.weight, 7, [kind])
    assert counts == {kind.name: 8 * kind.weight}
    assert not found, found[0]


@pytest.mark.parametrize("kind", KINDS, ids=[one.name for one in KINDS])
def test_what_was_found_before_stays_mended(kind: Kind) -> None:
    for content in kind.seeds:
        kind.take(content)


def test_a_fault_is_found_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(content: bytes) -> None:
        if b"\xff" in content:
            raise ValueError

    monkeypatch.setattr(runner, "CORPUS", tmp_path)
    _, found, _ = runner.run(200, 1, [replace(KINDS[0], name="faulty", take=faulty)])
    assert found
    assert len(list((tmp_path / "faulty").iterdir())) > 0
