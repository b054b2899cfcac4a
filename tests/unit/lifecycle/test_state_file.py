"""What a state file keeps, and what it makes of files that hold no state."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom_server.lifecycle.labels import MovedLabels
from darkroom_server.lifecycle.state_file import BadStateFile, SavedState, StateFile

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VERSIONS = st.integers(1, 2**63 - 1)
STATES = st.builds(
    SavedState,
    loads=st.dictionaries(NAMES, st.lists(VERSIONS, max_size=3).map(tuple), max_size=3),
    labels=st.dictionaries(
        NAMES,
        st.builds(
            MovedLabels,
            versions=st.dictionaries(NAMES, st.none() | VERSIONS, max_size=3),
            traffic_percent=st.dictionaries(NAMES, st.floats(0, 100), max_size=3),
        ),
        max_size=3,
    ),
)


@given(STATES)
def test_rule_7_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, state: SavedState
) -> None:
    file = StateFile(tmp_path_factory.mktemp("state") / "state.json")
    file.write(SavedState())
    file.write(state)
    assert file.read() == state


def test_without_a_file_there_is_no_state(tmp_path: Path) -> None:
    assert StateFile(tmp_path / "state.json").read() == SavedState()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param("", "the file: Invalid JSON", id="empty"),
        pytest.param('{"format": 1', "the file: Invalid JSON", id="cut"),
        pytest.param('{"format": 2}', "format: Input should be 1", id="another-format"),
        pytest.param('{"format": 1, "lods": {}}', "lods: Extra", id="unknown-field"),
        pytest.param(
            '{"format": 1, "loads": {"m": [0]}}', "loads.m.0: Input should be", id="version-0"
        ),
    ],
)
def test_what_holds_no_state_is_told_with_its_place(
    tmp_path: Path, content: str, problem: str
) -> None:
    file = StateFile(tmp_path / "state.json")
    file.path.write_text(content)
    with pytest.raises(BadStateFile, match=problem):
        file.read()
    assert file.set_aside().read_text() == content


def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = StateFile(tmp_path / "state.json")
    before = SavedState(loads={"m": (1,)})
    file.write(before)

    def fails(number: int) -> None:
        raise OSError(28, "No space left on device", number)

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="No space"):
        file.write(SavedState())
    assert file.read() == before
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
