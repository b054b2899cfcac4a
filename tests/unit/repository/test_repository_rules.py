"""The rules of what a version is, when it is whole and what is refused; a test for each."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from darkroom_server.repository.repository import ModelRepository
from tests.unit.repository.builders import (
    SDXL_INDEX,
    VAE_CONFIG,
    Repository,
    dump,
    pipeline_files,
    safetensors,
)

UNET = "unet/diffusion_pytorch_model.safetensors"


def manifest_of(folder: Path) -> str:
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )


def served(repository: Repository, *, settle_s: float = 0.0) -> dict[int, str]:
    """Digests of the whole versions of model m."""
    scan = ModelRepository(repository.root, settle_s=settle_s).scan()
    return {
        one.version: one.digest
        for model in scan.models
        if model.info.name == "m"
        for one in model.versions
    }


# A version's folder is a number without leading zeros, and nothing else.


@pytest.mark.parametrize("name", ["1", "9", "10", "2026112501", str(2**63 - 1)])
def test_a_number_is_a_version(repository: Repository, name: str) -> None:
    repository.pipeline("m", name)
    assert served(repository).keys() == {int(name)}
    assert repository.complaints() == []


@pytest.mark.parametrize(
    "name",
    [
        "0",
        "03",
        "2-tmp",
        "3.bak",
        "1.0",
        "-1",
        "+1",
        "v1",
        "1 ",
        "1e3",
        "0x1",
        "\u0661",
        "\u00b2",
        str(2**63),
    ],
)
def test_any_other_name_is_ignored_with_a_warning(repository: Repository, name: str) -> None:
    repository.pipeline("m", 1)
    repository.pipeline("m", name)
    assert served(repository).keys() == {1}
    [complaint] = repository.complaints()
    assert ": warning: is ignored: " in complaint


# A version counts when it is whole.


@pytest.mark.parametrize("name", pipeline_files(SDXL_INDEX))
def test_a_version_without_one_of_its_files_does_not_count(
    repository: Repository, name: str
) -> None:
    repository.pipeline("m", 1)
    repository.pipeline("m", 2)
    (repository.root / "m" / "2" / name).unlink()
    assert served(repository).keys() == {1}
    assert any(text.startswith("m/2") for text in repository.errors())


def test_a_version_without_a_shard_that_its_index_names_does_not_count(
    repository: Repository,
) -> None:
    folder = repository.pipeline("m", 1)
    repository.pipeline("m", 2, without=UNET)
    index = {"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}
    repository.write(f"m/2/{UNET}.index.json", dump(index))
    repository.write("m/2/unet/part-1.safetensors", safetensors(a=2))
    assert served(repository).keys() == {1}
    repository.write("m/2/unet/part-2.safetensors", safetensors(b=2))
    assert served(repository).keys() == {1, 2}
    assert folder.is_dir()


@pytest.mark.parametrize("cut_bytes", [1, 8, 60])
def test_a_version_with_a_truncated_file_of_weights_does_not_count(
    repository: Repository, cut_bytes: int
) -> None:
    folder = repository.pipeline("m", 1)
    (folder / UNET).write_bytes((folder / UNET).read_bytes()[:-cut_bytes])
    assert served(repository) == {}


@pytest.mark.parametrize("name", ["model_index.json", UNET, "vae/config.json"])
def test_a_version_of_which_a_file_changed_a_moment_ago_does_not_count_yet(
    repository: Repository, name: str
) -> None:
    folder = repository.pipeline("m", 1)
    # Whatever times a copy sets: nobody can set the one that counts.
    os.utime(folder / name, (0, 0))
    assert served(repository, settle_s=3600.0) == {}
    assert ModelRepository(repository.root, settle_s=3600.0).scan().is_unfinished
    assert served(repository).keys() == {1}


def test_a_manifest_that_matches_counts_at_once(repository: Repository) -> None:
    folder = repository.pipeline("m", 1)
    repository.write("m/1/MANIFEST.sha256", manifest_of(folder))
    assert served(repository, settle_s=3600.0).keys() == {1}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda folder: (folder / UNET).unlink(), id="a-file-is-missing"),
        pytest.param(
            lambda folder: (folder / "vae/config.json").write_text(json.dumps(VAE_CONFIG) + " "),
            id="a-file-is-another",
        ),
        pytest.param(
            lambda folder: (folder / "MANIFEST.sha256").write_text("no digest\n"),
            id="it-is-no-manifest",
        ),
    ],
)
def test_a_manifest_that_does_not_match_keeps_its_version_out(
    repository: Repository, change: Callable[[Path], object]
) -> None:
    folder = repository.pipeline("m", 1)
    repository.write("m/1/MANIFEST.sha256", manifest_of(folder))
    change(folder)
    assert served(repository) == {}
    assert repository.errors()


@pytest.mark.parametrize("keeps", ["size-and-time", "size-time-and-inode"])
def test_another_content_is_seen_whatever_of_the_file_stays(
    repository: Repository, keeps: str
) -> None:
    path = repository.pipeline("m", 1) / "scheduler" / "scheduler_config.json"
    path.write_text('{"a": 1}')
    models = ModelRepository(repository.root)
    before, status = models.scan().models[0].versions[0].digest, path.stat()
    if keeps == "size-and-time":
        path.unlink()
    path.write_text('{"a": 2}')
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert models.scan().models[0].versions[0].digest != before


# Pickles are refused, code of a model is never run, and nothing leaves the repository.


@pytest.mark.parametrize("suffix", ["bin", "ckpt", "pt", "pth", "pkl", "pickle", "joblib", "BIN"])
def test_pickled_weights_are_refused(repository: Repository, suffix: str) -> None:
    repository.pipeline("m", 1)
    repository.write(f"m/1/unet/diffusion_pytorch_model.{suffix}", b"\x80\x04.")
    assert served(repository) == {}
    [error] = repository.errors()
    assert "convert the weights to safetensors" in error


@pytest.mark.parametrize("name", ["pipeline.py", "unet/modeling.py", "vae/fast.so", "x.pyc"])
def test_code_of_a_model_is_refused(repository: Repository, name: str) -> None:
    repository.pipeline("m", 1)
    repository.write(f"m/1/{name}", b"raise SystemExit")
    assert served(repository) == {}
    [error] = repository.errors()
    assert "never run" in error


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"_class_name": ["pipeline", "Mine"]}, id="a-pipeline-of-its-own"),
        pytest.param({"unet": ["my_package", "UNet"]}, id="a-part-from-elsewhere"),
        pytest.param({"auto_map": {"AutoModel": "modeling.Mine"}}, id="a-map-to-code"),
    ],
)
def test_an_index_that_names_code_is_refused(
    repository: Repository, change: dict[str, object]
) -> None:
    repository.pipeline("m", 1)
    repository.write("m/1/model_index.json", dump(SDXL_INDEX | change))
    assert served(repository) == {}
    assert any("never run" in error for error in repository.errors())


@pytest.mark.parametrize("inside", ["m", "m/1", "m/1/unet", f"m/1/{UNET}", "m/config.pbtxt"])
def test_a_link_that_leaves_the_repository_is_refused(
    repository: Repository, tmp_path: Path, inside: str
) -> None:
    repository.pipeline("m", 1)
    repository.config("m", 'license: "x"\n')
    path, outside = repository.root / inside, tmp_path / "outside"
    path.rename(outside)
    path.symlink_to(outside)
    assert served(repository) == {}
    assert any("copy what it points at instead" in error for error in repository.errors())


@pytest.mark.parametrize("shard", ["../../../outside.safetensors", "/etc/hostname"])
def test_a_path_in_an_index_that_leaves_its_version_is_refused(
    repository: Repository, shard: str
) -> None:
    (repository.root.parent / "outside.safetensors").write_bytes(safetensors(a=2))
    repository.pipeline("m", 1, without=UNET)
    repository.write(f"m/1/{UNET}.index.json", dump({"weight_map": {"a": shard}}))
    assert served(repository) == {}
    assert any("which is not there" in error for error in repository.errors())
