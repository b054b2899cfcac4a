"""Which exports may be served."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from darkroom_server.backends.exports import (
    UnusableDenoiser,
    export_folder,
    usable_graph,
    write_record,
)
from darkroom_server.domain.models import Denoiser, DenoiserKind, ExportWeights, VersionInfo
from tests.unit.example_models import SDXL

ONNX = Denoiser(kind=DenoiserKind.ONNXRUNTIME)


@pytest.fixture
def version(tmp_path: Path) -> VersionInfo:
    return VersionInfo(model=SDXL, version=3, path=tmp_path / "3", digest="d" * 64, weight_bytes=1)


def exported(version: VersionInfo, *, digest: str = "d" * 64) -> Path:
    folder = export_folder(version.path, DenoiserKind.ONNXRUNTIME, ExportWeights.FP32)
    folder.mkdir(parents=True)
    (folder / "denoiser.onnx").write_bytes(b"graph")
    write_record(folder, digest=digest, packages={"torch": "2"}, psnr_db=float("inf"))
    return folder


def test_a_whole_one_is_served(version: VersionInfo) -> None:
    folder = exported(version)
    assert usable_graph(version, ONNX) == folder / "denoiser.onnx"
    assert json.loads((folder / "export.json").read_text())["psnr_db"] == 1000.0


def test_a_missing_one_is_told_with_the_command(version: VersionInfo) -> None:
    openvino = Denoiser(kind=DenoiserKind.OPENVINO, weights=ExportWeights.INT8)
    command = f"run darkroom export {SDXL.name} --version 3 --to openvino --weights int8"
    with pytest.raises(UnusableDenoiser, match=command):
        usable_graph(version, openvino)


def test_one_of_other_weights_is_refused(version: VersionInfo) -> None:
    exported(version, digest="e" * 64)
    with pytest.raises(UnusableDenoiser, match="made of other weights: run darkroom export"):
        usable_graph(version, ONNX)


@pytest.mark.parametrize("damage", ["shortened", "more", "link"])
def test_one_that_is_not_whole_is_refused(version: VersionInfo, damage: str) -> None:
    folder = exported(version)
    graph = folder / "denoiser.onnx"
    match damage:
        case "shortened":
            graph.write_bytes(b"grap")
        case "more":
            (folder / "more.bin").write_bytes(b"")
        case "link":
            graph.unlink()
            elsewhere = version.path.parent / "elsewhere"
            elsewhere.write_bytes(b"graph")
            graph.symlink_to(elsewhere)
    with pytest.raises(UnusableDenoiser, match="not whole: run darkroom export"):
        usable_graph(version, ONNX)


def test_one_without_a_record_is_refused(version: VersionInfo) -> None:
    (exported(version) / "export.json").write_text("{")
    with pytest.raises(UnusableDenoiser, match="no readable record"):
        usable_graph(version, ONNX)
