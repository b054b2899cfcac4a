"""Pictures that are saved: whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from darkroom_client.files import write_whole


def test_a_picture_that_cannot_be_written_leaves_the_one_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    write_whole(path, b"old")

    def half(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_device_is_written_to_and_named(tmp_path: Path) -> None:
    write_whole(Path(os.devnull), b"a")
    with pytest.raises(OSError, match=r"No space left.*'/dev/full'"):
        write_whole(Path("/dev/full"), b"a")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    write_whole(tmp_path / "link", b"a")
    assert (tmp_path / "there").read_bytes() == b"a"
