"""What was loaded is what was checked, or is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from darkroom_server.domain.errors import ModelUnavailable
from darkroom_server.domain.models import VersionInfo
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.worker.files_check import require_unchanged
from tests.unit.deep_folders import nest, remove


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "root" / "fake" / "1"
    (folder / "unet").mkdir(parents=True)
    (folder.parent / "config.pbtxt").write_text("backend: BACKEND_FAKE\n")
    (folder / "unet" / "weights").write_text("weights")
    (folder / "notes.txt").write_text("notes")
    return folder


def seen(folder: Path) -> VersionInfo:
    [model] = ModelRepository(folder.parents[1]).scan().models
    return model.versions[0]


def test_files_that_nobody_touched_are_not_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = seen(folder)
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("a file was read"))
    require_unchanged(version)


def test_rights_and_second_names_change_nothing(folder: Path) -> None:
    version = seen(folder)
    (folder / "notes.txt").chmod(0o600)
    os.link(folder / "unet" / "weights", folder.parent / "backup")
    require_unchanged(version)


def test_the_same_content_in_another_file_is_the_same(folder: Path) -> None:
    version = seen(folder)
    shutil.copy(folder / "notes.txt", folder.parent / "copy")
    (folder.parent / "copy").replace(folder / "notes.txt")
    require_unchanged(version)


def test_what_darkroom_keeps_beside_a_version_is_no_file_of_it(folder: Path) -> None:
    version = seen(folder)
    (folder / ".step_costs.json").write_text("{}")
    (folder / "onnx" / "fp32").mkdir(parents=True)
    (folder / "onnx" / "fp32" / "denoiser.onnx").write_text("graph")
    require_unchanged(version)
    assert seen(folder).digest == version.digest


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda one: one.write_text("heavier"), id="rewritten"),
        pytest.param(lambda one: one.write_text("more of it"), id="longer"),
        pytest.param(lambda one: one.unlink(), id="removed"),
        pytest.param(lambda one: (one.parent / "weights.2").write_text(""), id="another-beside-it"),
        pytest.param(lambda one: shutil.rmtree(one.parents[1]), id="folder-removed"),
    ],
)
def test_a_change_of_files_is_told_with_the_name_of_one(folder: Path, change: object) -> None:
    version = seen(folder)
    assert callable(change)
    change(folder / "unet" / "weights")
    with pytest.raises(ModelUnavailable, match="Files of version 1 were replaced"):
        require_unchanged(version)


def test_a_rewritten_file_with_its_old_times_is_told(folder: Path) -> None:
    version = seen(folder)
    weights = folder / "unet" / "weights"
    status = weights.stat()
    weights.write_text("heavier")
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert weights.stat().st_mtime_ns == version.files[1].mtime_ns
    with pytest.raises(ModelUnavailable, match="unet/weights"):
        require_unchanged(version)


def test_a_link_that_leads_elsewhere_by_now_is_not_followed(folder: Path) -> None:
    link = folder.parent / "2"
    link.symlink_to("1")
    [model] = ModelRepository(folder.parents[1]).scan().models
    version = model.version(2)
    assert version is not None
    (folder.parent / "other").mkdir()
    link.unlink()
    link.symlink_to("other")
    require_unchanged(version)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda folder: nest(folder, 1100), id="folders-in-each-other"),
        pytest.param(
            lambda folder: [(folder / name).symlink_to(".") for name in "ab"], id="loops-of-links"
        ),
    ],
)
def test_folders_without_end_are_a_change(folder: Path, change: object) -> None:
    version = seen(folder)
    assert callable(change)
    change(folder)
    with pytest.raises(ModelUnavailable, match="Files of version 1 were replaced"):
        require_unchanged(version)
    remove(folder)
