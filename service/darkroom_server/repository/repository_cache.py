"""A remote repository's local copy: whole versions, their files by content, within a bound.

    <model>/config.pbtxt            what a scan of the folder sees
    <model>/<version>               a link to a version below
    .versions/<key>/…               whole versions; their files are further names of those below
    .objects/<key>                  files by content
    .partial/<key>                  files of which a part has been fetched

One process at a time, one thread at a time unless a method says otherwise. Raises OSError.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from darkroom_server.kept_files import PUBLIC, replace_file
from darkroom_server.model_config.config_file import CONFIG_NAME
from darkroom_server.repository.remote_store import RemoteFile


class CacheFull(Exception):
    """There is no room for what should be served; the message says how much is missing."""


def version_key(files: Mapping[str, str]) -> str:
    """Of a version: its files' keys by their names below it."""
    lines = sorted(f"{key} {name}\n" for name, key in files.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class RepositoryCache:
    """The copy of one repository in `folder`, of at most `limit_bytes`."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self._limit_bytes = limit_bytes
        self._objects = folder / ".objects"
        self._partial = folder / ".partial"
        self.versions = folder / ".versions"
        self._lock: int | None = None

    def open(self, *, waits: bool = False) -> bool:
        """Takes the folder for this process; false while another has it, unless it `waits`."""
        if self._lock is not None:
            return True
        for folder in (self._objects, self._partial, self.versions):
            folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    @property
    def is_open(self) -> bool:
        """Whether this process has it."""
        return self._lock is not None

    def close(self) -> None:
        """Leaves the folder to others."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def linked(self) -> dict[tuple[str, int], str]:
        """Keys of the versions that a scan sees, by model and number."""
        return {
            (path.parent.name, int(path.name)): path.readlink().name
            for path in self.folder.glob("[!.]*/[1-9]*")
            if path.is_symlink() and path.name.isdecimal()
        }

    def link(self, model: str, number: int, key: str) -> None:
        """Makes a whole version seen, in one step, instead of what was there under its number."""
        os.utime(self.versions / key)  # it is in use
        (self.folder / model).mkdir(exist_ok=True)
        draft = self.folder / model / ".link"
        draft.unlink(missing_ok=True)
        draft.symlink_to(Path("..") / self.versions.name / key)
        draft.replace(self.folder / model / str(number))

    def unlink(self, model: str, number: int) -> None:
        """Makes a version unseen; its files stay until room is needed."""
        (self.folder / model / str(number)).unlink(missing_ok=True)

    def models(self) -> set[str]:
        """Names of the models' folders."""
        return {path.name for path in self.folder.glob("[!.]*") if path.is_dir()}

    def drop(self, model: str) -> None:
        """Makes a model unseen."""
        shutil.rmtree(self.folder / model)

    def write_config(self, model: str, content: bytes | None) -> None:
        """Replaces a model's config in one step, None: removes it; raises OSError."""
        path = self.folder / model / CONFIG_NAME
        if content is None:
            path.unlink(missing_ok=True)
        elif not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(exist_ok=True)
            replace_file(path, content, mode=PUBLIC)

    def has_version(self, key: str) -> bool:
        """Whether a version is here, whole."""
        return (self.versions / key).is_dir()

    def has_file(self, key: str) -> bool:
        """Whether a file is here, whole. For any thread."""
        return (self._objects / key).exists()

    def partial(self, key: str) -> Path:
        """Where a file is to be gathered. For any thread."""
        return self._partial / key

    def keep(self, key: str) -> None:
        """A file that was gathered is whole. For any thread."""
        (self._partial / key).replace(self._objects / key)

    def assemble(self, key: str, files: Mapping[str, str]) -> None:
        """Makes a version of whole files: their keys by their names below it."""
        draft = self.versions / f".{key}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        for name, file_key in files.items():
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(self._objects / file_key)
        draft.rename(self.versions / key)

    def missing_bytes(self, files: Iterable[RemoteFile]) -> int:
        """How much is still to be fetched of some files."""
        missing = {one.key: one.size_bytes for one in files if not self.has_file(one.key)}
        return sum(max(0, size - _size_bytes(self.partial(key))) for key, size in missing.items())

    def make_room(
        self, needed_bytes: int, *, versions: Collection[str], files: Collection[str]
    ) -> None:
        """Lets versions go, the longest unused first, until there is room; raises CacheFull.

        The `versions` and `files` with these keys stay.
        """
        others = [path for path in self.versions.iterdir() if path.name not in versions]
        others.sort(key=lambda path: path.stat().st_mtime_ns)
        links = self.linked()
        while (used_bytes := self._used_bytes()) + needed_bytes > self._limit_bytes:
            if self._drop_unused_files(files):
                continue
            if not others:
                raise CacheFull(
                    f"{needed_bytes / 1e9:.2f} GB are needed, but of the cache's "
                    f"{self._limit_bytes / 1e9:.2f} GB are {used_bytes / 1e9:.2f} GB in use: raise "
                    "--repository-cache-bytes"
                )
            oldest = others.pop(0)
            for model, number in [at for at, key in links.items() if key == oldest.name]:
                self.unlink(model, number)
            shutil.rmtree(oldest)

    def _used_bytes(self) -> int:
        folders = (self._objects, self._partial)
        return sum(_size_bytes(path) for folder in folders for path in folder.iterdir())

    def _drop_unused_files(self, kept: Collection[str]) -> bool:
        """Removes files that belong to no version; whether there were any."""
        unused = [
            path
            for folder in (self._objects, self._partial)
            for path in folder.iterdir()
            if path.name not in kept and path.stat().st_nlink == 1
        ]
        for path in unused:
            path.unlink()
        return bool(unused)


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
