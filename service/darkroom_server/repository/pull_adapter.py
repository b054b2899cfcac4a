"""Fetches an adapter from a hub as the next version of one in a model's folder: checked, or not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from darkroom_server.domain.problems import quoted
from darkroom_server.kept_files import PUBLIC, replace_file
from darkroom_server.repository.adapters.config import ADAPTER_CONFIG_NAME
from darkroom_server.repository.adapters.folders import ADAPTERS_NAME
from darkroom_server.repository.adapters.layers import Misfit, base_layers, check_adapter
from darkroom_server.repository.hub import HubError, HubListing, fetch, look_up
from darkroom_server.repository.pull import Pulled, check_room, manifest_of, next_version, same_as
from darkroom_server.repository.version_files import MANIFEST_NAME
from darkroom_server.repository.weights import BadWeights

_STAGING = ".pull"
#: The names that diffusers and peft give adapters, which count before others; peft's settings.
_USUAL = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
_PEFT_CONFIG = "adapter_config.json"
_PICKLES = (".bin", ".pt", ".ckpt", ".pth")
_TOLD_NAMES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterOrder:
    """What is to be fetched: `file` of a hub repository, or its only one, as adapter `name`."""

    repo_id: str
    model: str
    name: str
    revision: str | None = None
    file: str | None = None


def pull_adapter(root: Path, order: AdapterOrder, *, say: Callable[[str], None]) -> Pulled:
    """Downloads an adapter into the model's folder. Blocking.

    `say` is called with each line of progress. Raises HubError, also for what does not fit the
    model; OSError when the disk is full or not writable. Nothing is there then that was not
    there before.
    """
    base = _newest(root / order.model, order.model)
    listing = look_up(order.repo_id, order.revision)
    file = adapter_file(listing, order.file)
    settings = str(file.with_name(_PEFT_CONFIG))
    wanted = [str(file), *([settings] if settings in listing.sizes_bytes else [])]
    folder = root / order.model / ADAPTERS_NAME / order.name
    staging = root / _STAGING / f"{order.model}-{order.name}-{listing.commit[:12]}"
    fetched, version = staging / "fetched", staging / "version"
    fetched.mkdir(parents=True, exist_ok=True)
    byte_count = sum(listing.sizes_bytes[name] for name in wanted)
    check_room(fetched, byte_count)
    say(f"{len(wanted)} files, {byte_count / 1e6:,.1f} MB, commit {listing.commit[:12]}")
    fetch(listing, wanted, fetched)
    shutil.rmtree(version, ignore_errors=True)
    version.mkdir()
    for name in wanted:
        (fetched / name).replace(version / PurePosixPath(name).name)
    try:
        _check(version / file.name, base, order)
    except HubError:
        shutil.rmtree(staging)
        raise
    manifest = manifest_of(version, [PurePosixPath(name).name for name in wanted])
    number = same_as(folder, manifest)
    is_new = number is None
    if number is None:
        number = next_version(folder)
        replace_file(version / MANIFEST_NAME, manifest, mode=PUBLIC)
        folder.mkdir(parents=True, exist_ok=True)
        _say_what_it_is(folder / ADAPTER_CONFIG_NAME, order)
        version.rename(folder / str(number))
    shutil.rmtree(staging)
    return Pulled(f"{order.model}/{ADAPTERS_NAME}/{order.name}", number, is_new)


def adapter_file(listing: HubListing, asked: str | None) -> PurePosixPath:
    """The file of weights that is meant. Pure; raises HubError where that is ambiguous."""
    names = [n for n in listing.sizes_bytes if ".." not in PurePosixPath(n).parts]
    found = sorted(name for name in names if name.endswith(".safetensors"))
    if asked is not None:
        if asked in found:
            return PurePosixPath(asked)
        raise HubError(f"{listing.repo_id} has no safetensors file {quoted(asked)}")
    usual = [name for name in found if name in _USUAL]
    if len(usual or found) == 1:
        return PurePosixPath((usual or found)[0])
    if found:
        shown = ", ".join(found[:_TOLD_NAMES])
        more = f" and {len(found) - _TOLD_NAMES} more" if len(found) > _TOLD_NAMES else ""
        raise HubError(f"{listing.repo_id} has several: name one with --file ({shown}{more})")
    if any(name.endswith(_PICKLES) for name in names):
        raise HubError(
            f"{listing.repo_id} has its adapter only as a pickle, which can run code when it is "
            "opened: look for a revision with safetensors"
        )
    raise HubError(f"{listing.repo_id} has no safetensors file")


def _newest(folder: Path, model: str) -> Path:
    number = next_version(folder) - 1
    if number < 1:
        raise HubError(
            f"the repository has no model {quoted(model)} for the adapter: pull it first"
        )
    return folder / str(number)


def _check(file: Path, base: Path, order: AdapterOrder) -> None:
    names = [str(path.relative_to(base)) for path in base.rglob("*.safetensors")]
    try:
        check_adapter(file, file.stat().st_size, base_layers(base, names))
    except (Misfit, BadWeights) as error:
        shown = f"{order.repo_id} cannot be used with {quoted(order.model)}"
        raise HubError(f"{shown}: {file.name} {error}") from error


def _say_what_it_is(config: Path, order: AdapterOrder) -> None:
    """A new adapter's id on the hub is an alias, where no other adapter has it."""
    if config.exists():
        return
    alias = f'aliases: "{order.repo_id}"\n' if order.file is None else ""
    text = f"# Written by `darkroom pull {order.repo_id}`; change what you like.\n{alias}"
    replace_file(config, text, mode=PUBLIC)
