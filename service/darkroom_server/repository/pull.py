"""Downloads a version into a model repository from a hub: completely and checked, or not at all.

Everything is fetched into `.pull/` of the repository, which scans skip, and moved into
place when it has passed the checks that serving makes. A second call goes on where one stopped.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from darkroom_server.domain.problems import ProblemLog, Severity
from darkroom_server.kept_files import PUBLIC, replace_file
from darkroom_server.model_config.config_file import CONFIG_NAME, read_config
from darkroom_server.repository.catalogue import find_entry
from darkroom_server.repository.hub import (
    HubError,
    HubListing,
    fetch,
    look_up,
    part_class,
    part_files,
    read_index,
    wanted_files,
)
from darkroom_server.repository.pipeline_folder import INDEX_NAME
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.repository.version_files import MANIFEST_NAME

_STAGING = ".pull"
_HUB_CACHE = ".cache"
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Pulled:
    """Where a model is now; `is_new` is false when the same files were there before."""

    model: str
    version: int
    is_new: bool


def model_name(repo_id: str) -> str:
    """The folder that a hub repository gets: its name in lower case, as folders may be named."""
    return re.sub(r"[^a-z0-9._-]+", "-", repo_id.rpartition("/")[2].lower()).strip("-._")


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOrder:
    """What is to be fetched: a revision of a hub repository as the next version of model `name`.

    With a `variant`, such as fp16, its weights where there are some. `parts` of the pipeline, by
    name, come from other repositories.
    """

    repo_id: str
    name: str
    revision: str | None = None
    variant: str | None = None
    parts: Mapping[str, str] = field(default_factory=dict)


def pull(root: Path, order: PullOrder, *, say: Callable[[str], None]) -> Pulled:
    """Downloads a version. Blocking.

    `say` is called with each line of progress. Raises HubError; OSError when the disk is full or
    not writable. After either no version is there that was not there before.
    """
    name = order.name
    listing = look_up(order.repo_id, order.revision)
    staging = root / _STAGING / "-".join(filter(None, (name, listing.commit[:12], order.variant)))
    number = next_version(root / name)
    version = staging / name / str(number)
    version.mkdir(parents=True, exist_ok=True)
    index = read_index(listing, version)
    wanted = wanted_files(listing, index, variant=order.variant, given=order.parts)
    others = {part: look_up(repo_id, None) for part, repo_id in order.parts.items()}
    of_parts = {part: part_files(other, part) for part, other in others.items()}
    byte_count = sum(listing.sizes_bytes[one] for one in wanted)
    byte_count += sum(others[part].sizes_bytes[n] for part, ns in of_parts.items() for n in ns)
    check_room(version, byte_count)
    file_count = len(wanted) + sum(len(names) for names in of_parts.values())
    say(f"{file_count} files, {byte_count / 1e6:,.1f} MB, commit {listing.commit[:12]}")
    fetch(listing, wanted, version)
    for part, other in others.items():
        fetch(other, of_parts[part], version / part)
        index[part] = part_class(version / part, part, other.repo_id)
    names = _finish(version, wanted, of_parts, index)
    manifest = manifest_of(version, names)
    same = same_as(root / name, manifest)
    if same is not None:
        shutil.rmtree(staging)
        return Pulled(name, same, is_new=False)
    replace_file(version / MANIFEST_NAME, manifest, mode=PUBLIC)
    config = _config(root, order.name, listing)
    replace_file(staging / name / CONFIG_NAME, config, mode=PUBLIC)
    _check(staging, order.repo_id)
    _move(version, root / name, config)
    shutil.rmtree(staging)
    return Pulled(name, number, is_new=True)


def _finish(
    version: Path,
    wanted: Mapping[str, str],
    of_parts: Mapping[str, list[str]],
    index: Mapping[str, object],
) -> list[str]:
    """Gives the files of a version their names; returns these."""
    for source, target in wanted.items():
        (version / source).replace(version / target)
    if of_parts:
        replace_file(version / INDEX_NAME, json.dumps(index, indent=2), mode=PUBLIC)
    for folder in (version, *(version / part for part in of_parts)):
        shutil.rmtree(folder / _HUB_CACHE, ignore_errors=True)
    return [*wanted.values(), *(f"{part}/{n}" for part, names in of_parts.items() for n in names)]


def next_version(folder: Path) -> int:
    """The number after the highest of a folder's versions."""
    numbers = [int(path.name) for path in folder.glob("[1-9]*") if path.name.isdecimal()]
    return max(numbers, default=0) + 1


def check_room(version: Path, byte_count: int) -> None:
    """Raises HubError where the disk is too full.

    What an interrupted pull has left in the folder needs no further room.
    """
    held_bytes = sum(path.stat().st_size for path in version.rglob("*") if path.is_file())
    missing_bytes, free_bytes = byte_count - held_bytes, shutil.disk_usage(version).free
    if free_bytes < missing_bytes:
        raise HubError(
            f"{missing_bytes / 1e9:.1f} GB more are needed, {free_bytes / 1e9:.1f} GB are free "
            f"in {version}"
        )


def manifest_of(version: Path, names: list[str]) -> str:
    """The manifest of a version's files."""
    lines = []
    for name in sorted(names):
        digest = hashlib.sha256()
        with (version / name).open("rb") as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
        lines.append(f"{digest.hexdigest()}  {name}\n")
    return "".join(lines)


def same_as(folder: Path, manifest: str) -> int | None:
    """The version that has this manifest."""
    for path in folder.glob(f"[1-9]*/{MANIFEST_NAME}"):
        is_version = path.parent.name.isdecimal()
        if is_version and path.read_text(encoding="utf-8") == manifest:
            return int(path.parent.name)
    return None


def _check(staging: Path, repo_id: str) -> None:
    """Raises HubError when the service would not serve what was fetched."""
    scan = ModelRepository(staging).scan()
    errors = [one.message for one in scan.problems if one.severity is Severity.ERROR]
    if errors or not scan.models:
        raise HubError(f"{repo_id} cannot be served: {'; '.join(errors) or 'no version in it'}")


def _move(version: Path, folder: Path, config: str) -> None:
    folder.mkdir(exist_ok=True)
    if not (folder / CONFIG_NAME).exists():
        replace_file(folder / CONFIG_NAME, config, mode=PUBLIC)
    version.rename(folder / version.name)


def _config(root: Path, name: str, listing: HubListing) -> str:
    """The config of a new model: from the catalogue, if it is there, without names of others.

    Of a model that is there already it is the one that it has.
    """
    present = root / name / CONFIG_NAME
    if present.exists():
        return present.read_text(encoding="utf-8")
    entry = find_entry(listing.repo_id)
    return (
        f"# Written by `darkroom pull {listing.repo_id}`; change what you like.\n"
        f'hub {{ repo_id: "{listing.repo_id}" revision: "{listing.commit}" }}\n'
        + (entry.text_without(_names_of_others(root, name)) if entry is not None else "")
    )


def _names_of_others(root: Path, name: str) -> set[str]:
    names = set()
    for path in root.glob(f"[!.]*/{CONFIG_NAME}"):
        if path.parent.name != name:
            config = read_config(path.read_bytes(), shown="", problems=ProblemLog(""))
            names |= {path.parent.name, *(config.settings.aliases if config is not None else ())}
    return names
