"""Whether what was loaded is what was checked: files can be replaced between the two."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from darkroom_server.backends.exports import is_part
from darkroom_server.domain.errors import ModelUnavailable
from darkroom_server.domain.models import FileStamp, VersionInfo

#: Folders in each other, and files and folders of a version; pipelines have two, and hundreds.
MAX_DEPTH = 32
MAX_FILE_COUNT = 20_000


def require_unchanged(version: VersionInfo) -> None:
    """Raises ModelUnavailable when files of a version are not those that it was checked with.

    To be called when all of them have been read. Files that look untouched are not read again;
    of the others the content counts, so that a change of rights or a second name is none.
    """
    if not version.files:
        return
    changed = [one.name for one in version.files if not _is_same(version.path / one.name, one)]
    if not changed:
        changed = list(itertools.islice(_added(version), 1))
    if changed:
        name = min(changed)
        raise ModelUnavailable(
            version.model.name,
            f"Files of version {version.version} were replaced while it was loaded, among them "
            f"{name}; it is loaded once they no longer change.",
        )


def _is_same(path: Path, stamp: FileStamp) -> bool:
    try:
        status = path.stat()
        if status.st_size != stamp.size_bytes:
            return False
        seen = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        if seen == (stamp.mtime_ns, stamp.ctime_ns, stamp.inode):
            return True
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == stamp.sha256
    except OSError:
        return False


def _added(version: VersionInfo) -> Iterator[str]:
    """Files that are parts of the version, links followed, and were none when it was checked.

    More folders than a version may have, in each other or in all, are one of these.
    """
    files = {one.name for one in version.files}
    left, count = [PurePosixPath()], 0
    while left:
        folder = left.pop()
        for name, is_folder in _entries(version.path, folder):
            count += 1
            if count > MAX_FILE_COUNT or len(folder.parts) > MAX_DEPTH:
                yield name
                return
            if is_folder:
                left.append(PurePosixPath(name))
            elif name not in files:
                yield name


def _entries(root: Path, folder: PurePosixPath) -> Iterator[tuple[str, bool]]:
    """The parts of a version in one of its folders, and whether each is a folder."""
    try:
        with os.scandir(root / folder) as found:
            for entry in found:
                name = (folder / entry.name).as_posix()
                if is_part(name):
                    yield name, entry.is_dir()
    except OSError:
        return  # gone by now, or a loop of links
