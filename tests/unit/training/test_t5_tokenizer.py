"""The T5 vocabulary reads captions word by word, and everything else letter by letter."""

from __future__ import annotations

import random
from pathlib import Path

from transformers import T5TokenizerFast

from darkroom_training import t5_tokenizer
from darkroom_training.scenes import caption, random_scene


def test_no_caption_has_an_unknown_piece_or_is_cut() -> None:
    words, rng = t5_tokenizer.build(), random.Random(5)
    for _ in range(300):
        ids = words(caption(random_scene(rng), rng)).input_ids
        assert words.unk_token_id not in ids
        assert len(ids) <= t5_tokenizer.MAX_TOKENS


def test_a_word_is_one_piece_with_a_capital_letter_too() -> None:
    words = t5_tokenizer.build()
    assert words.tokenize("A red circle, green.") == ["▁A", "▁red", "▁circle", ",", "▁green", "."]
    assert len(words("Purple").input_ids) == 2


def test_words_of_no_caption_are_spelt() -> None:
    words = t5_tokenizer.build()
    assert words.tokenize("zebra7") == ["▁", "z", "e", "b", "r", "a", "7"]


def test_it_is_the_same_every_time_and_after_being_saved(tmp_path: Path) -> None:
    words = t5_tokenizer.build()
    assert words.get_vocab() == t5_tokenizer.build().get_vocab()
    words.save_pretrained(tmp_path)
    loaded = T5TokenizerFast.from_pretrained(tmp_path)
    prompt = "An orange house on the left, Wörd 7!"
    assert loaded(prompt).input_ids == words(prompt).input_ids
    assert loaded.model_max_length == t5_tokenizer.MAX_TOKENS
