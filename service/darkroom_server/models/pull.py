"""Fills a version folder of a model repository from a hub: whole, checked, or not at all.

Everything is fetched into `.pull/` of the repository, which no scan looks at, and moved into
place when it has passed the checks that serving makes. A second call goes on where one stopped.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from darkroom_server.models.config_file import CONFIG_NAME
from darkroom_server.models.hub import (
    HubError,
    HubListing,
    fetch,
    look_up,
    read_index,
    wanted_files,
)
from darkroom_server.models.problems import Severity
from darkroom_server.models.repository import ModelRepository
from darkroom_server.models.version_files import MANIFEST_NAME

_STAGING = ".pull"
_HUB_CACHE = ".cache"
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Pulled:
    """Where a model is now; `is_new` is false when the same files were there before."""

    model: str
    version: int
    byte_count: int
    is_new: bool


def model_name(repo_id: str) -> str:
    """The folder that a hub repository gets: its name in lower case, as folders may be named."""
    return re.sub(r"[^a-z0-9._-]+", "-", repo_id.rpartition("/")[2].lower()).strip("-._")


def pull(
    root: Path,
    repo_id: str,
    *,
    name: str,
    revision: str | None,
    say: Callable[[str], None],
) -> Pulled:
    """Fetches a revision of `repo_id` as the next version of model `name`. Blocking.

    `say` is told what happens, a line at a time. Raises HubError; OSError when the disk is full or
    not writable. After either no version is there that was not there before.
    """
    listing = look_up(repo_id, revision)
    staging = root / _STAGING / f"{name}-{listing.commit[:12]}"
    number = _next_version(root / name)
    version = staging / name / str(number)
    version.mkdir(parents=True, exist_ok=True)
    names = wanted_files(listing, read_index(listing, version))
    byte_count = sum(listing.sizes_bytes[one] for one in names)
    _check_room(root, byte_count)
    say(f"{len(names)} files, {byte_count / 1e6:,.1f} MB, commit {listing.commit[:12]}")
    fetch(listing, names, version)
    manifest = _manifest(version, names)
    same = _version_with(root / name, manifest)
    if same is not None:
        shutil.rmtree(staging)
        return Pulled(name, same, byte_count, is_new=False)
    (version / MANIFEST_NAME).write_text(manifest, encoding="utf-8")
    _check(staging, repo_id)
    _move(version, root / name, listing)
    shutil.rmtree(staging)
    return Pulled(name, number, byte_count, is_new=True)


def _next_version(folder: Path) -> int:
    numbers = [int(path.name) for path in folder.glob("[1-9]*") if path.name.isdecimal()]
    return max(numbers, default=0) + 1


def _check_room(root: Path, byte_count: int) -> None:
    free_bytes = shutil.disk_usage(root).free
    if free_bytes < byte_count:
        raise HubError(
            f"{byte_count / 1e9:.1f} GB are needed, {free_bytes / 1e9:.1f} GB are free in {root}"
        )


def _manifest(version: Path, names: list[str]) -> str:
    lines = []
    for name in sorted(names):
        digest = hashlib.sha256()
        with (version / name).open("rb") as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
        lines.append(f"{digest.hexdigest()}  {name}\n")
    return "".join(lines)


def _version_with(folder: Path, manifest: str) -> int | None:
    for path in folder.glob(f"[1-9]*/{MANIFEST_NAME}"):
        if path.read_text(encoding="utf-8") == manifest:
            return int(path.parent.name)
    return None


def _check(staging: Path, repo_id: str) -> None:
    """Raises HubError when the service would not serve what was fetched."""
    scan = ModelRepository(staging).scan()
    errors = [one.message for one in scan.problems if one.severity is Severity.ERROR]
    if errors or not scan.models:
        raise HubError(f"{repo_id} cannot be served: {'; '.join(errors) or 'no version in it'}")


def _move(version: Path, folder: Path, listing: HubListing) -> None:
    shutil.rmtree(version / _HUB_CACHE, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    config = folder / CONFIG_NAME
    if not config.exists():
        config.write_text(
            f"# Written by `darkroom pull {listing.repo_id}`; change what you like.\n"
            f'hub {{ repo_id: "{listing.repo_id}" revision: "{listing.commit}" }}\n',
            encoding="utf-8",
        )
    version.rename(folder / version.name)
