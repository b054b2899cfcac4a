"""A version's `MANIFEST.sha256`: its files and their SHA-256, as `sha256sum` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from darkroom_server.backends.exports import is_part
from darkroom_server.domain.problems import ProblemLog, quoted
from darkroom_server.repository.version_files import MANIFEST_NAME, DigestCache, FileEntry
from darkroom_server.worker.files_check import MAX_FILE_COUNT

MAX_MANIFEST_BYTES = 16 << 20


def checked_digests(
    files: Mapping[str, FileEntry], digests: DigestCache, *, shown: str, problems: ProblemLog
) -> dict[str, str] | None:
    """SHA-256 of every file of a version by name, compared with the manifest if there is one.

    None with a problem where they cannot be had; `shown` is the version's name in problems.
    Blocking.
    """
    sha256_by_name = {}
    for name, entry in files.items():
        try:
            sha256_by_name[name] = digests.sha256(entry)
        except OSError as error:
            problems.error(f"{shown}/{name}", f"cannot be read: {error.strerror or error}")
            return None
    manifest = files.get(MANIFEST_NAME)
    if manifest is None:
        return sha256_by_name
    shown = f"{shown}/{MANIFEST_NAME}"
    try:
        with manifest.path.open("rb") as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
        text = content.decode("utf-8")
    except OSError as error:
        problems.error(shown, f"cannot be read: {error.strerror or error}")
        return None
    except UnicodeDecodeError:
        problems.error(shown, "cannot be read: it is not UTF-8 text")
        return None
    if len(content) > MAX_MANIFEST_BYTES:
        problems.error(shown, f"is larger than {MAX_MANIFEST_BYTES} bytes")
        return None
    folder = manifest.path.parent
    check_manifest(text, sha256_by_name, folder=folder, shown=shown, problems=problems)
    return sha256_by_name


def check_manifest(
    text: str,
    sha256_by_name: Mapping[str, str],
    *,
    folder: Path,
    shown: str,
    problems: ProblemLog,
) -> None:
    """Compares a version's files with its manifest; `shown` is the manifest's name in problems.

    A line that leaves the version's `folder` is refused, by its name or by a link: what it names
    is no part of the version, and may change without it. Blocking.
    """
    folder = folder.resolve()
    named: set[str] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        expected, _, name = line.partition(" ")
        name = name.removeprefix(" ").removeprefix("*").removeprefix("./")
        if len(expected) != 64 or not name:
            problems.error(shown, f"line {number} is not '<sha256>  <name>'")
            return
        named.add(name)
        if len(named) > MAX_FILE_COUNT:
            problems.error(shown, f"names more than {MAX_FILE_COUNT} files")
            return
        if _is_elsewhere(name) or (name in sha256_by_name and _leads_elsewhere(name, folder)):
            problems.error(
                shown,
                f"line {number} names {quoted(name)}, which is not in the version's folder: copy "
                "what is meant into it, or remove the line",
            )
            continue
        if name == MANIFEST_NAME or not is_part(name):
            continue
        actual = sha256_by_name.get(name)
        if actual is None:
            problems.error(shown, f"names {quoted(name)}, which is not there: copy it again")
        elif actual != expected.lower():
            problems.error(shown, f"{quoted(name)} has another SHA-256: copy it again")
    if not named:
        problems.error(shown, "names no file")
    for name in sorted(sha256_by_name.keys() - named - {MANIFEST_NAME}):
        problems.warning(shown, f"does not name {quoted(name)}, which is there")


def _is_elsewhere(name: str) -> bool:
    return name.startswith("/") or ".." in PurePosixPath(name).parts


def _leads_elsewhere(name: str, folder: Path) -> bool:
    try:
        return not (folder / name).resolve().is_relative_to(folder)
    except (OSError, RuntimeError):  # it has become a loop of links
        return True
