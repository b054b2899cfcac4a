"""The files of one version folder: what is there, and their digests."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from darkroom_server.backends.exports import is_part
from darkroom_server.domain.models import FileStamp
from darkroom_server.domain.problems import ProblemLog
from darkroom_server.worker.files_check import MAX_DEPTH, MAX_FILE_COUNT

#: A list of the version's files and their SHA-256, in the format of `sha256sum`.
MANIFEST_NAME = "MANIFEST.sha256"

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A file, with the attributes that show whether it has changed."""

    path: Path
    size_bytes: int
    mtime_ns: int
    #: When its content, name or rights last changed; unlike `mtime_ns`, nobody can set it.
    ctime_ns: int
    inode: int

    def stamp(self, name: str, sha256: str) -> FileStamp:
        """It as a worker that loads the version may check it."""
        return FileStamp(
            name=name,
            size_bytes=self.size_bytes,
            mtime_ns=self.mtime_ns,
            ctime_ns=self.ctime_ns,
            inode=self.inode,
            sha256=sha256,
        )


class FileChanged(OSError):
    """The file changed while it was read."""


def list_files(
    folder: Path, *, root: Path, shown: str, problems: ProblemLog
) -> dict[str, FileEntry]:
    """Every file below `folder` by its name relative to it, `/` between the parts, sorted.

    Names that begin with a dot are left out, and so are the folders of exported denoisers. Links
    are followed while they stay below `root` (a real path); what leaves it, loops, cannot be read
    or is no plain file is a problem, and so is more than any pipeline has: folders in each other,
    files and folders. `shown` is the folder's name in problems. Blocking.
    """
    walk = _Walk(root, shown, problems)
    walk.run(folder)
    return dict(sorted(walk.entries.items()))


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to be looked into, with the real folders that it is in."""

    name: str
    path: Path
    above: tuple[Path, ...]


class _Walk:
    """No recursion: the depth of folders is not under the server's control."""

    def __init__(self, root: Path, shown: str, problems: ProblemLog) -> None:
        self._root = root
        self._shown = shown
        self._problems = problems
        self._count = 0
        self._left: list[_Folder] = []
        self.entries: dict[str, FileEntry] = {}

    def run(self, folder: Path) -> None:
        self._left = [_Folder("", folder, ())]
        while self._left:
            try:
                self._enter(self._left.pop())
            except _TooManyFiles:
                self._fail("", f"holds more than {MAX_FILE_COUNT} files and folders")
                return

    def _enter(self, folder: _Folder) -> None:
        real = self._inside(folder.name, folder.path)
        if real is None:
            return
        if real in folder.above:
            self._fail(folder.name, "is a link to a folder that contains it: remove the link")
            return
        if len(folder.above) > MAX_DEPTH:
            self._fail(folder.name, f"is more than {MAX_DEPTH} folders deep")
            return
        try:
            with os.scandir(folder.path) as found:
                children = sorted(self._parts(folder.name, found))
        except OSError as error:
            self._fail(folder.name, f"cannot be read: {error.strerror}")
            return
        for child in children:
            name = f"{folder.name}/{child}".lstrip("/")
            self._visit(name, folder.path / child, (*folder.above, real))

    def _parts(self, folder: str, found: Iterable[os.DirEntry[str]]) -> Iterator[str]:
        """Names in a folder that are parts of the version; raises _TooManyFiles."""
        for entry in found:
            self._count += 1
            if self._count > MAX_FILE_COUNT:
                raise _TooManyFiles
            if is_part(f"{folder}/{entry.name}".lstrip("/")):
                yield entry.name

    def _visit(self, name: str, path: Path, above: tuple[Path, ...]) -> None:
        if not name.isprintable():
            self._fail(name, "has a name that is not printable text: rename it")
            return
        try:
            status = path.stat()
        except OSError as error:
            self._fail(name, f"cannot be read: {error.strerror}")
            return
        if stat.S_ISDIR(status.st_mode):
            self._left.append(_Folder(name, path, above))
        elif not stat.S_ISREG(status.st_mode):
            self._fail(name, "is neither a file nor a folder")
        elif not path.is_symlink() or self._inside(name, path) is not None:
            self.entries[name] = FileEntry(
                path=path,
                size_bytes=status.st_size,
                mtime_ns=status.st_mtime_ns,
                ctime_ns=status.st_ctime_ns,
                inode=status.st_ino,
            )

    def _inside(self, name: str, path: Path) -> Path | None:
        try:
            real = path.resolve(strict=True)
        except (OSError, RuntimeError):
            self._fail(name, "is a link that leads nowhere")
            return None
        if real.is_relative_to(self._root):
            return real
        self._fail(name, "is a link that leaves the repository: copy what it points at instead")
        return None

    def _fail(self, name: str, message: str) -> None:
        self._problems.error(f"{self._shown}/{name}".rstrip("/"), message)


class _TooManyFiles(Exception):
    """There are more than any pipeline has."""


class DigestCache:
    """SHA-256 of files, computed again only when path, size, mtime or inode differ.

    Remembers what the last scan asked for. Not for concurrent use, but for `stop`.
    """

    def __init__(self) -> None:
        self._is_stopped = threading.Event()
        self._previous: dict[FileEntry, str] = {}
        self._current: dict[FileEntry, str] = {}

    def begin_scan(self) -> None:
        """Forgets what the scan before the last one asked for."""
        self._previous, self._current = self._current, {}

    def stop(self) -> None:
        """No file is read on: a process that is to end does not wait for minutes of hashing."""
        self._is_stopped.set()

    def sha256(self, entry: FileEntry) -> str:
        """Hex digest of a file's content. Blocking; raises OSError, FileChanged."""
        known = self._current.get(entry) or self._previous.get(entry)
        digest = known or _hash_file(entry, self._is_stopped)
        self._current[entry] = digest
        return digest


def _hash_file(entry: FileEntry, is_stopped: threading.Event) -> str:
    digest = hashlib.sha256()
    with entry.path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            if is_stopped.is_set():
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
            digest.update(chunk)
        status = os.fstat(file.fileno())
    if (status.st_size, status.st_mtime_ns, status.st_ino) != (
        entry.size_bytes,
        entry.mtime_ns,
        entry.inode,
    ):
        raise FileChanged(None, "it changed while it was read")
    return digest.hexdigest()


def version_digest(sha256_by_name: dict[str, str]) -> str:
    """SHA-256 over the lines of a sorted manifest: `sha256sum` of all files, sorted by name.

    The manifest itself is left out, so that adding one changes nothing.
    """
    lines = (
        f"{sha256}  {name}\n"
        for name, sha256 in sorted(sha256_by_name.items())
        if name != MANIFEST_NAME
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()
