"""What a look at a repository keeps of the one before."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom_server.lifecycle.carry_over import carry_over
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.repository.scan import RepositoryScan

NOTHING = RepositoryScan(models=(), broken=(), problems=())


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    for version in (1, 2):
        (tmp_path / "m" / str(version)).mkdir(parents=True)
    config(tmp_path, "")
    return ModelRepository(tmp_path)


def config(root: Path, text: str) -> None:
    (root / "m" / "config.pbtxt").write_text(f"backend: BACKEND_FAKE\n{text}")


def seen(scan: RepositoryScan) -> dict[str, tuple[list[int], tuple[int, ...]]]:
    """Whole and serving versions by model."""
    return {
        model.info.name: ([one.version for one in model.versions], model.serving)
        for model in scan.models
    }


def spoil(root: Path, version: int) -> None:
    (root / "m" / str(version) / "away").symlink_to("/")


def test_a_spoilt_version_stays_as_it_was_seen_last(
    repository: ModelRepository, tmp_path: Path
) -> None:
    before = carry_over(NOTHING, repository.scan())
    spoil(tmp_path, 2)
    now = repository.scan()
    assert seen(now) == {"m": ([1], (1,))}
    assert seen(carry_over(before, now)) == {"m": ([2, 1], (2,))}


def test_a_spoilt_version_that_was_never_whole_is_not_known(
    repository: ModelRepository, tmp_path: Path
) -> None:
    spoil(tmp_path, 2)
    assert seen(carry_over(NOTHING, repository.scan())) == {"m": ([1], (1,))}


def test_a_model_whose_config_was_spoilt_stays(repository: ModelRepository, tmp_path: Path) -> None:
    before = repository.scan()
    config(tmp_path, "nonsense")
    now = repository.scan()
    assert seen(now) == {}
    assert seen(carry_over(before, now)) == seen(before)


def test_what_was_taken_away_is_gone(repository: ModelRepository, tmp_path: Path) -> None:
    before = repository.scan()
    (tmp_path / "m" / "2").rmdir()
    assert seen(carry_over(before, repository.scan())) == {"m": ([1], (1,))}
    (tmp_path / "m").rename(tmp_path / ".m")
    assert seen(carry_over(before, repository.scan())) == {}


def test_a_label_stays_on_a_version_that_was_spoilt(
    repository: ModelRepository, tmp_path: Path
) -> None:
    config(tmp_path, 'version_policy { all {} } version_labels { key: "stable" value: 1 }\n')
    before = repository.scan()
    assert before.models[0].default_version == 1
    spoil(tmp_path, 1)
    assert carry_over(before, repository.scan()).models[0].default_version == 1


def test_nothing_is_gone_while_the_repository_cannot_be_looked_at(
    repository: ModelRepository, tmp_path: Path
) -> None:
    before = repository.scan()
    tmp_path.rename(tmp_path.with_name("away"))
    now = repository.scan()
    assert seen(now) == {}
    kept = carry_over(before, now)
    assert seen(kept) == seen(before)
    assert kept.has_errors
