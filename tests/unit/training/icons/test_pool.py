from __future__ import annotations

from pathlib import Path

import pytest
import torch

from darkroom_training.icons import autoencoder, pool
from darkroom_training.icons.scenes import Scene


@pytest.fixture
def folder(training_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pool, "SHARD_SCENES", 4)
    (tmp_path / "icons").symlink_to(training_folder / "icons")
    torch.save(autoencoder.build().state_dict(), tmp_path / "vae-folded.pt")
    return tmp_path


def test_ranks_make_a_pool_together_and_it_holds_what_the_encoder_says(folder: Path) -> None:
    for rank in range(2):
        pool.extend(rank, 2, folder, 3)
    made = pool.load(folder)
    assert len(made.scenes) == 12
    assert made.latents.shape == (12, 4, 24, 24)
    assert made.latents.isfinite().all()
    assert made.latents.float().std() > 0.1


def test_what_is_there_is_not_made_again(folder: Path) -> None:
    pool.extend(0, 1, folder, 1)
    before = (folder / "pool" / "0000.pt").stat().st_mtime_ns
    pool.extend(0, 1, folder, 1)
    assert (folder / "pool" / "0000.pt").stat().st_mtime_ns == before


def test_a_pool_of_another_grammar_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.extend(0, 1, folder, 1)
    first = pool.load(folder).scenes[0]

    def always_the_first(rng: object) -> Scene:
        del rng
        return first

    monkeypatch.setattr(pool, "random_scene", always_the_first)
    with pytest.raises(pool.PoolOfAnotherGrammar, match="delete"):
        pool.load(folder)
