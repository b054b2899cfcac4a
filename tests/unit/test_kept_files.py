"""Files that are replaced: whole, with their mode, and named when they cannot be."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from darkroom_server.kept_files import PUBLIC, replace_file


def full_disk(descriptor: int) -> None:
    del descriptor
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_that_cannot_be_written_is_named_and_keeps_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys.toml"
    replace_file(path, "old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left") as caught:
        replace_file(path, "new")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["keys.toml"]


def test_a_new_file_is_private_unless_said_otherwise_and_an_old_one_keeps_its_mode(
    tmp_path: Path,
) -> None:
    private, public, old = (tmp_path / name for name in ("private", "public", "old"))
    before = os.umask(0o022)
    try:
        replace_file(private, "a")
        replace_file(public, b"a", mode=PUBLIC)
        old.touch(0o640)
        replace_file(old, "a")
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (private, public, old)]
    assert modes == [0o600, 0o644, 0o640]


def test_a_link_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "there"
    (tmp_path / "link").symlink_to(path)
    replace_file(tmp_path / "link", "a")
    assert (tmp_path / "link").is_symlink()
    assert path.read_text() == "a"
