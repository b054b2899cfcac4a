"""Tokenizers, and what the text encoders are taught with them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer, T5Tokenizer

from darkroom_training.icons import text
from darkroom_training.icons.captions import caption
from darkroom_training.icons.scenes import Gradient, Plain, Scene, random_scene
from darkroom_training.icons.stamps import Thing
from darkroom_training.icons.tokenizers import (
    MAX_TOKENS,
    PLAN_TOKENS,
    TEXT_TOKENS,
    clip_words,
    merges_for,
    t5_words,
)
from darkroom_training.icons.vocabulary import words


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    return clip_words(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def t5() -> T5Tokenizer:
    return t5_words()


def test_every_word_is_one_token(clip: CLIPTokenizer, t5: T5Tokenizer) -> None:
    # CLIP takes words apart at hyphens, whatever its vocabulary.
    whole = [word for word in words() if "-" not in word]
    assert [word for word in whole if len(clip(word).input_ids) != 3] == []
    for said in (*words(), *(word.capitalize() for word in words())):
        assert len(t5(said).input_ids) == 2, said


def test_captions_leave_room_for_the_plan(clip: CLIPTokenizer, t5: T5Tokenizer) -> None:
    rng = random.Random(1)
    said = [text.prompt(random_scene(rng), rng) for _ in range(1000)]
    longest = [max(len(ids) for ids in each(said).input_ids) for each in (clip, t5)]
    assert max(longest) <= TEXT_TOKENS


def test_an_unknown_word_is_spelt_and_leaves_the_others_alone(
    clip: CLIPTokenizer, t5: T5Tokenizer
) -> None:
    for each in (clip, t5):
        known, with_unknown = each("a cat").input_ids, each("a zzq cat").input_ids
        assert len(with_unknown) > len(known) + 1
        assert with_unknown[-2:] == known[-2:]


def test_merges_do_not_depend_on_chance() -> None:
    assert merges_for(("cat", "cats", "scatter")) == merges_for(("cat", "cats", "scatter"))


def test_a_part_of_the_plan_is_a_square_of_latents() -> None:
    parts = torch.zeros(1, PLAN_TOKENS, 64)
    parts[0, 7, :16] = 1.0  # Second row, second column; the first channel.
    latents = text.as_latents(parts)
    assert latents.shape == (1, 4, 24, 24)
    assert latents[0, 0, 4:8, 4:8].min() == 1
    assert latents.sum() == 16


@pytest.mark.parametrize("kind", ["clip", "t5"])
def test_a_planner_learns_from_pictures_and_questions(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, tokenizer = text.build(kind, tmp_path)
    rng = random.Random(1)
    scenes = [random_scene(rng) for _ in range(2)]
    ids = text.token_ids(tokenizer, [caption(scene, rng) for scene in scenes])
    assert ids.shape == (2, MAX_TOKENS)
    planned, questions = model(ids, torch.tensor([text.answers(scene) for scene in scenes]))
    assert planned.shape == (2, 4, 24, 24)
    (planned.pow(2).mean() + questions).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_what_a_scene_answers() -> None:
    plain = Scene(things=(Thing("cat"),), backdrop=Plain(None))
    twice = Scene(
        things=(Thing("circle", "red"),), count=2, backdrop=Gradient("blue", "white"), size="small"
    )
    assert text.answers(plain) != text.answers(twice)
    assert len(text.answers(plain)) == len(text.answers(twice))
