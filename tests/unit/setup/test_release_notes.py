"""The version of a release, everywhere, and its part of the change log."""

from __future__ import annotations

import datetime
import json
import shutil
import tomllib
from pathlib import Path

import pytest

from setup import release_notes
from setup.release_notes import WrongVersion

DAY = datetime.date(2026, 12, 1)
LOG = """# Changelog

## Unreleased

### Added

- A thing.

## 0.1.0 - 2026-11-01

- The first.
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for file, _ in release_notes.PLACES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(release_notes.ROOT / file, tmp_path / file)
    (tmp_path / release_notes.LOG).write_text(LOG)
    return tmp_path


def test_all_packages_of_the_checkout_have_one_version() -> None:
    assert release_notes.version_of(release_notes.ROOT)


def test_a_version_is_set_everywhere_and_the_log_has_its_part(checkout: Path) -> None:
    release_notes.set_version(checkout, "1.2.3", DAY)
    assert release_notes.version_of(checkout) == "1.2.3"
    project = tomllib.loads((checkout / "service/pyproject.toml").read_text())
    assert project["project"]["version"] == "1.2.3"
    lock = json.loads((checkout / "clients/typescript/package-lock.json").read_text())
    assert lock["version"] == lock["packages"][""]["version"] == "1.2.3"
    found = release_notes.sections((checkout / release_notes.LOG).read_text())
    assert list(found) == ["Unreleased", "1.2.3", "0.1.0"]
    assert found["Unreleased"] == ""
    assert "## 1.2.3 - 2026-12-01" in (checkout / release_notes.LOG).read_text()
    assert "- A thing." in release_notes.notes(checkout, "1.2.3", tag="v1.2.3")
    with pytest.raises(WrongVersion, match="nothing that is not released"):
        release_notes.set_version(checkout, "1.2.4", DAY)


def test_a_release_candidate_has_a_version_that_every_registry_takes(checkout: Path) -> None:
    """npm and Helm want the hyphen, Python's packages leave it out."""
    release_notes.set_version(checkout, "1.2.3-rc1", DAY)
    assert release_notes.version_of(checkout) == "1.2.3-rc1"
    values = (checkout / "deploy/helm/values/gpu-tls.yaml").read_text()
    assert "tag: 1.2.3-rc1-cuda" in values
    log = checkout / release_notes.LOG
    log.write_text(log.read_text().replace("## Unreleased\n", "## Unreleased\n\n- More.\n"))
    release_notes.set_version(checkout, "1.2.3", DAY)
    assert release_notes.version_of(checkout) == "1.2.3"


@pytest.mark.parametrize(
    "version", ["", "1.2", "v1.2.3", "0.1.0", "1.2.3; rm", "1.2.3rc1", "1.2.3-rc"]
)
def test_what_is_no_new_version_changes_nothing(checkout: Path, version: str) -> None:
    before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    with pytest.raises(WrongVersion):
        release_notes.set_version(checkout, version, DAY)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(("file", "before"), release_notes.PLACES)
def test_a_place_with_another_version_is_named(checkout: Path, file: str, before: str) -> None:
    version = release_notes.version_of(checkout)
    path = checkout / file
    path.write_text(release_notes._place(before).sub(r"\g<1>9.9.9", path.read_text(), count=1))
    with pytest.raises(WrongVersion, match=f"{file}: 9.9.9"):
        release_notes.version_of(checkout)
    assert version != "9.9.9"


def test_a_tag_asks_for_its_own_version_and_its_part_of_the_log(checkout: Path) -> None:
    assert "- A thing." in release_notes.notes(checkout, "2.0.0", tag="")
    with pytest.raises(WrongVersion, match=r"the tag is v1\.0\.0 and the packages have 2\.0\.0"):
        release_notes.notes(checkout, "2.0.0", tag="v1.0.0")
    with pytest.raises(WrongVersion, match=r"no part for 2\.0\.0"):
        release_notes.notes(checkout, "2.0.0", tag="v2.0.0")
