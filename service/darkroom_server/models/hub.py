"""A model repository on a hub: what a version folder needs of it, and fetching that.

Speaks to the hub through huggingface_hub, which reads `HF_ENDPOINT`, `HF_TOKEN` and `HF_HOME`.
Blocking.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
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

from darkroom_server.models.json_files import BadJson, parse_object
from darkroom_server.models.pipeline_folder import INDEX_NAME
from darkroom_server.models.problems import quoted

#: Weights as they are saved by default: no variants (`.fp16`), no shards of another format.
_WEIGHTS = re.compile(r"(model|diffusion_pytorch_model)(-\d+-of-\d+)?\.safetensors(\.index\.json)?")
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


def wanted_files(listing: HubListing, index: dict[str, object]) -> list[str]:
    """Names of the files that the pipeline's parts need: configs, vocabularies and safetensors.

    Pure. Raises HubError for a part whose weights are there only as pickles.
    """
    parts = {name for name, part in index.items() if isinstance(part, list) and any(part)}
    wanted = [INDEX_NAME]
    for part in sorted(parts):
        inside = [PurePosixPath(n) for n in listing.sizes_bytes if n.startswith(f"{part}/")]
        inside = [path for path in inside if len(path.parts) == 2 and ".." not in path.parts]
        weights = [path for path in inside if _WEIGHTS.fullmatch(path.name)]
        if not weights and any(path.suffix in _PICKLES for path in inside):
            raise HubError(
                f"{listing.repo_id} has the weights of its {quoted(part)} only as pickles, which "
                "can run code when they are opened: look for a revision with safetensors"
            )
        texts = [
            path
            for path in inside
            if path.suffix in _TEXTS and ".safetensors.index" not in path.name
        ]
        wanted += [str(path) for path in sorted({*weights, *texts})]
    return wanted


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
