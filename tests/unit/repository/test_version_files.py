from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from darkroom_server.domain.problems import ProblemLog
from darkroom_server.repository.version_files import (
    DigestCache,
    FileChanged,
    FileEntry,
    list_files,
    version_digest,
)


def write(path: Path, content: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def names_and_problems(root: Path) -> tuple[list[str], list[str]]:
    problems = ProblemLog("m")
    files = list_files(root / "m/1", root=root.resolve(), shown="m/1", problems=problems)
    return list(files), [str(problem) for problem in problems.problems]


def entry_of(path: Path) -> FileEntry:
    status = path.stat()
    return FileEntry(
        path=path,
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        inode=status.st_ino,
    )


def test_files_are_listed_by_name_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/y/x.txt", ".git/config", "a/.DS_Store"):
        write(tmp_path / "m/1" / name)
    assert names_and_problems(tmp_path) == (["a/y/x.txt", "a/z.txt", "b.txt"], [])


def test_links_inside_the_repository_are_followed(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere/w.txt")
    (tmp_path / "m/1").mkdir(parents=True)
    (tmp_path / "m/1/file").symlink_to("../../elsewhere/w.txt")
    (tmp_path / "m/1/folder").symlink_to(tmp_path / "elsewhere")
    assert names_and_problems(tmp_path) == (["file", "folder/w.txt"], [])


@pytest.mark.parametrize(
    ("link", "target", "expected"),
    [
        pytest.param("w", "../../../secret.txt", "leaves the repository: copy", id="file-outside"),
        pytest.param("d", "/", "leaves the repository: copy", id="folder-outside"),
        pytest.param("w", "nowhere", "m/1/w: error: cannot be read", id="dangling"),
        pytest.param("w", "w", "m/1/w: error: cannot be read", id="loop-of-one"),
        pytest.param("d", ".", "a folder that contains it", id="folder-loop"),
    ],
)
def test_other_links_are_refused(tmp_path: Path, link: str, target: str, expected: str) -> None:
    root = tmp_path / "repository"
    write(tmp_path / "secret.txt")
    write(root / "m/1/a.txt")
    (root / "m/1" / link).symlink_to(target)
    names, problems = names_and_problems(root)
    assert names == ["a.txt"]
    assert len(problems) == 1
    assert expected in problems[0]


def test_what_is_no_file_is_refused_and_never_opened(tmp_path: Path) -> None:
    (tmp_path / "m/1").mkdir(parents=True)
    os.mkfifo(tmp_path / "m/1/pipe")
    assert names_and_problems(tmp_path) == (
        [],
        ["m/1/pipe: error: is neither a file nor a folder"],
    )


def test_a_name_that_no_terminal_could_show_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m/1").mkdir(parents=True)
    (tmp_path / "m/1/a\nb").write_text("x")
    names, problems = names_and_problems(tmp_path)
    assert names == []
    assert problems == ["m/1/a\\nb: error: has a name that is not printable text: rename it"]


def test_the_digest_is_that_of_a_sorted_manifest() -> None:
    assert (
        version_digest({"b": "22", "a": "11", "MANIFEST.sha256": "33"})
        == hashlib.sha256(b"11  a\n22  b\n").hexdigest()
    )


def test_an_unchanged_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = entry_of(write(tmp_path / "w", "content"))
    cache = DigestCache()
    expected = hashlib.sha256(b"content").hexdigest()
    assert cache.sha256(entry) == expected
    cache.begin_scan()
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("the file was read again"))
    assert cache.sha256(entry) == expected


def test_what_a_scan_did_not_ask_for_is_forgotten(tmp_path: Path) -> None:
    path = write(tmp_path / "w", "content")
    entry = entry_of(path)
    cache = DigestCache()
    cache.sha256(entry)
    cache.begin_scan()
    cache.begin_scan()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        cache.sha256(entry)


def test_a_file_that_changes_while_it_is_read_has_no_digest(tmp_path: Path) -> None:
    path = write(tmp_path / "w", "content")
    entry = entry_of(path)
    write(path, "other content")
    with pytest.raises(FileChanged):
        DigestCache().sha256(entry)


def test_a_scan_of_a_server_that_ends_reads_nothing_more(tmp_path: Path) -> None:
    read, unread = (entry_of(write(tmp_path / name, "content")) for name in "ab")
    cache = DigestCache()
    known = cache.sha256(read)
    cache.stop()
    with pytest.raises(OSError, match="cancel"):
        cache.sha256(unread)
    assert cache.sha256(read) == known
