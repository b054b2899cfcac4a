"""Exported denoisers in a version's folder: where they are, and whether one may be used.

`<version>/onnx/fp32/` and its like hold a graph, that of the VAE's decoder where it is faster than
torch, and a record of what they were made of. They come there whole, by one rename, and are no part
of the version: its digest leaves them out.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from darkroom_server.domain.models import Denoiser, DenoiserKind, ExportWeights, VersionInfo
from darkroom_server.kept_files import PUBLIC, replace_file

#: The folders in a version that hold exports, by what runs them.
EXPORT_FOLDERS = {DenoiserKind.ONNXRUNTIME: "onnx", DenoiserKind.OPENVINO: "openvino"}
_GRAPHS = {DenoiserKind.ONNXRUNTIME: "denoiser.onnx", DenoiserKind.OPENVINO: "denoiser.xml"}
_DECODERS = {DenoiserKind.ONNXRUNTIME: "decoder.onnx", DenoiserKind.OPENVINO: "decoder.xml"}
_RECORD_NAME = "export.json"
#: No record of a few files is nearly as long; one that is cut here is none.
_MAX_RECORD_BYTES = 1 << 16


class UnusableDenoiser(Exception):
    """A denoiser cannot be had here; the message says why, and what helps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRecord:
    """What an export was made of and with.

    `digest` is the version's, `size_bytes_by_file` all of its other files, `packages` versions of
    what made it, and `psnr_db` how close its images came to torch's (infinite: 1000).
    """

    digest: str
    size_bytes_by_file: dict[str, int]
    packages: dict[str, str]
    psnr_db: float


def is_part(name: str) -> bool:
    """Whether a file or folder of a version, named relative to it, is a part of the version.

    What a name with a dot holds is not, and denoisers exported from the version are not.
    """
    parts = name.split("/")
    return parts[0] not in EXPORT_FOLDERS.values() and not any(
        part.startswith(".") for part in parts
    )


def export_folder(version: Path, kind: DenoiserKind, weights: ExportWeights) -> Path:
    """Where an export of a version's folder belongs."""
    return version / EXPORT_FOLDERS[kind] / weights.value


def graph_path(folder: Path, kind: DenoiserKind) -> Path:
    """The graph in an export's folder."""
    return folder / _GRAPHS[kind]


def decoder_path(folder: Path, kind: DenoiserKind) -> Path:
    """The decoder's graph in an export's folder, if there is one."""
    return folder / _DECODERS[kind]


def write_record(folder: Path, *, digest: str, packages: dict[str, str], psnr_db: float) -> None:
    """Describes the files that are there; raises OSError."""
    record = ExportRecord(
        digest=digest,
        size_bytes_by_file=_sizes(folder),
        packages=packages,
        psnr_db=min(psnr_db, 1000.0),
    )
    replace_file(folder / _RECORD_NAME, json.dumps(asdict(record), indent=1) + "\n", mode=PUBLIC)


def usable_graph(version: VersionInfo, denoiser: Denoiser) -> Path:
    """The graph to run; raises UnusableDenoiser."""
    folder = export_folder(version.path, denoiser.kind, denoiser.weights)
    command = export_command(version, denoiser)
    if not folder.is_dir():
        raise UnusableDenoiser(f"Nothing has been exported for {denoiser.label}: run {command}.")
    try:
        with (folder / _RECORD_NAME).open("rb") as file:
            record = json.loads(file.read(_MAX_RECORD_BYTES))
        sizes, digest = record["size_bytes_by_file"], record["digest"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UnusableDenoiser(f"The export has no readable record: run {command}.") from None
    if digest != version.digest:
        raise UnusableDenoiser(f"The export was made of other weights: run {command}.")
    root = version.path.resolve()
    leaves = any(not path.resolve().is_relative_to(root) for path in (folder, *folder.iterdir()))
    if leaves or sizes != _sizes(folder):
        raise UnusableDenoiser(f"The export is not whole: run {command}.")
    return graph_path(folder, denoiser.kind)


def export_command(version: VersionInfo, denoiser: Denoiser) -> str:
    """What writes the export that a denoiser needs."""
    target = EXPORT_FOLDERS[denoiser.kind]
    int8 = " --weights int8" if denoiser.weights is ExportWeights.INT8 else ""
    return f"darkroom export {version.model.name} --version {version.version} --to {target}{int8}"


def _sizes(folder: Path) -> dict[str, int]:
    return {
        path.name: path.stat().st_size
        for path in sorted(folder.iterdir())
        if path.name != _RECORD_NAME
    }
