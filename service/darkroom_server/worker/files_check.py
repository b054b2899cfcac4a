"""Whether what was loaded is what was checked: files can be replaced between the two."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from darkroom_server.backends.exports import is_part
from darkroom_server.domain.errors import ModelUnavailable
from darkroom_server.domain.models import FileStamp, VersionInfo


def require_unchanged(version: VersionInfo) -> None:
    """Raises ModelUnavailable when files of a version are not those that it was checked with.

    To be called when all of them have been read. Files that look untouched are not read again;
    of the others the content counts, so that a change of rights or a second name is none.
    """
    if not version.files:
        return
    changed = [one.name for one in version.files if not _is_same(version.path / one.name, one)]
    added = _names(version.path) - {one.name for one in version.files}
    if changed or added:
        name = sorted(changed or added)[0]
        raise ModelUnavailable(
            version.model.name,
            f"Files of version {version.version} were replaced while it was loaded, among them "
            f"{name}; it is loaded once they stand still.",
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


def _names(folder: Path) -> set[str]:
    """Files below a folder that are parts of the version, links followed."""
    names = set()
    for at, folders, files in os.walk(folder, followlinks=True):
        inside = Path(at).relative_to(folder)
        folders[:] = [name for name in folders if is_part((inside / name).as_posix())]
        names |= {name for one in files if is_part(name := (inside / one).as_posix())}
    return names
