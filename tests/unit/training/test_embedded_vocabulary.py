"""The configs of the embedded models list exactly the words that their captions are made of."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from darkroom_server.domain.vocabulary import said_words
from darkroom_training.scenes import caption, random_scene
from tests.unit.repository.builders import Repository

REPOSITORY = Path(__file__).parents[3] / "model_repo"


@pytest.mark.parametrize("name", ["tiny-flux-schnell", "tiny-flux-fill"])
def test_every_word_of_the_captions_is_known_and_no_other(name: str) -> None:
    rng = random.Random(3)
    said = {word for _ in range(20_000) for word in said_words(caption(random_scene(rng), rng))}
    assert set(Repository(REPOSITORY).model(name).info.vocabulary.words) == said
