"""A model repository on a hub: what a version folder needs of it, and fetching that.

Speaks to the hub through huggingface_hub, which reads `HF_ENDPOINT`, `HF_TOKEN` and `HF_HOME`.
Blocking.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import httpx
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from darkroom_server.domain.problems import quoted
from darkroom_server.pipelines.families import FAMILIES
from darkroom_server.repository.json_files import BadJson, parse_object
from darkroom_server.repository.pipeline_folder import INDEX_NAME

#: Weights as they are saved by default: no variants (`.fp16`), no shards of another format.
_WEIGHTS = re.compile(r"(model|diffusion_pytorch_model)(-\d+-of-\d+)?\.safetensors(\.index\.json)?")
#: Weights of a variant, alone, in shards of both spellings, and the shards' index.
_VARIANT = (
    r"(?P<stem>model|diffusion_pytorch_model)"
    r"(\.{0}\.safetensors|(?P<shard>\.{0}-\d+-of-\d+|-\d+-of-\d+\.{0})\.safetensors"
    r"|(?P<index>\.safetensors\.index\.{0}\.json))"
)
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")
_TEXTS = (".json", ".txt", ".model")


class HubError(Exception):
    """What was asked for cannot be had from the hub; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class HubListing:
    """A revision of a hub repository: its commit, and the size in bytes of every file by name."""

    repo_id: str
    commit: str
    sizes_bytes: dict[str, int]


def look_up(repo_id: str, revision: str | None) -> HubListing:
    """What a repository holds at a revision (a branch, a tag or a commit). Raises HubError."""
    try:
        info = HfApi().model_info(repo_id, revision=revision, files_metadata=True)
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, httpx.HTTPError) as error:
        raise HubError(_explained(error, repo_id, revision)) from error
    sizes_bytes = {one.rfilename: one.size or 0 for one in info.siblings or []}
    return HubListing(repo_id, info.sha or "", sizes_bytes)


def read_index(listing: HubListing, folder: Path) -> dict[str, object]:
    """The pipeline's `model_index.json`, fetched into `folder`. Raises HubError."""
    if INDEX_NAME not in listing.sizes_bytes:
        raise HubError(
            f"{listing.repo_id} holds no {INDEX_NAME}: it is not a diffusers pipeline "
            "(an adapter or a single-file checkpoint, perhaps)"
        )
    fetch(listing, [INDEX_NAME], folder)
    try:
        return parse_object((folder / INDEX_NAME).read_bytes())
    except BadJson as error:
        raise HubError(f"{listing.repo_id}: its {INDEX_NAME} cannot be read: {error}") from error


def wanted_files(
    listing: HubListing,
    index: dict[str, object],
    *,
    variant: str | None = None,
    given: Collection[str] = (),
) -> dict[str, str]:
    """What the pipeline's parts need: configs, vocabularies and safetensors.

    By the names that files have on the hub, the names they get: those of a variant are the
    default ones. Parts that are `given` come from elsewhere. Pure. Raises HubError for a part
    that is not there, or whose weights are there only as pickles.
    """
    parts = {name for name, part in index.items() if isinstance(part, list) and any(part)}
    family = FAMILIES.get(str(index.get("_class_name")))
    parts |= set(family.text_encoders if family is not None else ())
    wanted = {INDEX_NAME: INDEX_NAME}
    of_variant: dict[str, str] = {}
    for part in sorted(parts - set(given)):
        inside = [PurePosixPath(n) for n in listing.sizes_bytes if n.startswith(f"{part}/")]
        inside = [path for path in inside if len(path.parts) == 2 and ".." not in path.parts]
        if not inside:
            raise HubError(
                f"{listing.repo_id} needs {quoted(part)}, which is not published with it: name a "
                f"repository that holds it with --part {part}=REPO"
            )
        weights = {str(path): str(path) for path in inside if _WEIGHTS.fullmatch(path.name)}
        found = _of_variant(inside, variant)
        of_variant |= found
        weights = found or weights
        if not weights and any(path.suffix in _PICKLES for path in inside):
            raise HubError(
                f"{listing.repo_id} has the weights of its {quoted(part)} only as pickles, which "
                "can run code when they are opened: look for a revision with safetensors"
            )
        wanted |= weights | {str(path): str(path) for path in inside if _is_text(path)}
    if variant is not None and not of_variant:
        raise HubError(f"{listing.repo_id} has no variant {quoted(variant)}")
    return dict(sorted(wanted.items()))


def _of_variant(inside: list[PurePosixPath], variant: str | None) -> dict[str, str]:
    if variant is None:
        return {}
    pattern = re.compile(_VARIANT.format(re.escape(variant)))
    found = {}
    for path in inside:
        match = pattern.fullmatch(path.name)
        if match is None:
            continue
        name = f"{match['stem']}.safetensors"
        if match["shard"]:
            name = path.name  # as the index names it
        elif match["index"]:
            name = f"{match['stem']}.safetensors.index.json"
        found[str(path)] = str(path.with_name(name))
    return found


def _is_text(path: PurePosixPath) -> bool:
    return path.suffix in _TEXTS and ".safetensors.index" not in path.name


def part_files(listing: HubListing, part: str) -> list[str]:
    """What a repository that is no pipeline holds of a part: a tokenizer, or a text encoder. Pure.

    Raises HubError when it holds no such thing.
    """
    inside = [PurePosixPath(name) for name in listing.sizes_bytes if "/" not in name]
    wanted = [str(path) for path in inside if _is_text(path)]
    if "tokenizer" not in part:
        weights = [str(path) for path in inside if _WEIGHTS.fullmatch(path.name)]
        if not weights:
            raise HubError(f"{listing.repo_id} holds no safetensors for {quoted(part)}")
        wanted = [*weights, *(name for name in wanted if name.endswith("config.json"))]
    return sorted(set(wanted))


def part_class(folder: Path, part: str, repo_id: str) -> list[str]:
    """Library and class of a part that was fetched, for the pipeline's index. Raises HubError."""
    try:
        if "tokenizer" in part:
            kind = parse_object((folder / "tokenizer_config.json").read_bytes())["tokenizer_class"]
        else:
            kinds = parse_object((folder / "config.json").read_bytes())["architectures"]
            kind = kinds[0] if isinstance(kinds, list) and kinds else None
    except (OSError, BadJson, KeyError) as error:
        raise HubError(f"{repo_id} does not say what its {quoted(part)} is") from error
    return ["transformers", str(kind)]


def fetch(listing: HubListing, names: Iterable[str], folder: Path) -> None:
    """Fetches files into `folder`; what an interrupted call left there is gone on from.

    Shows progress bars on a terminal. Raises HubError.
    """
    wanted = list(names)
    try:
        if len(wanted) == 1:
            hf_hub_download(listing.repo_id, wanted[0], revision=listing.commit, local_dir=folder)
            return
        snapshot_download(
            listing.repo_id,
            revision=listing.commit,
            local_dir=folder,
            allow_patterns=wanted,
            max_workers=4,
        )
    except (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        httpx.HTTPError,
    ) as error:
        raise HubError(_explained(error, listing.repo_id, listing.commit)) from error


def _explained(error: Exception, repo_id: str, revision: str | None) -> str:
    shown = quoted(repo_id)
    match error:
        case GatedRepoError():
            return (
                f"{shown} asks you to accept its licence first: do so on its page on the hub, then "
                "give a token of yours in HF_TOKEN"
            )
        case RevisionNotFoundError():
            return f"{shown} has no revision {quoted(revision or 'main')}"
        case RepositoryNotFoundError():
            return f"the hub has no model {shown}, or it is private: then give a token in HF_TOKEN"
        case HFValidationError():
            return f"{shown} is not the id of a model on a hub (ORGANISATION/NAME)"
        case OfflineModeIsEnabled():
            return "HF_HUB_OFFLINE is set: nothing can be fetched"
        case HfHubHTTPError() if error.response is not None:
            return f"the hub answered {error.response.status_code} for {shown}; try again later"
        case _:
            return f"the hub cannot be reached ({type(error).__name__}); run the command again"
