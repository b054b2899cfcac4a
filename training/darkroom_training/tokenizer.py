"""A CLIP tokenizer of our own small vocabulary: byte-level BPE learnt from the captions."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from darkroom_training.scenes import caption, random_scene

START, END = "<|startoftext|>", "<|endoftext|>"
VOCABULARY_SIZE = 900
MAX_TOKENS = 32

#: Words that callers are likely to add; they are read as one token each, though never trained on.
EXTRA_WORDS = (
    "the with and of in on at to small large big little bright dark light photo drawing image "
    "painting simple nice beautiful sky sun moon night day sunset water grass tree cat dog car "
    "flower two three no not blurry ugly low high quality detailed style flat icon logo vector"
)


def load_or_build(folder: Path) -> CLIPTokenizer:
    """The tokenizer in the folder, learnt now if there is none.

    Learning is done once: rare pairs of letters that are equally frequent change places from one
    run to the next, and with them the numbers of the tokens that a model was trained on.
    """
    if not (folder / "merges.txt").exists():
        _learn(folder)
    return CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        model_max_length=MAX_TOKENS,
        pad_token=END,
    )


def _learn(folder: Path) -> None:
    """Learns the vocabulary and writes `vocab.json` and `merges.txt`."""
    rng = random.Random(0)
    texts = [caption(random_scene(rng), rng) for _ in range(20_000)] + [EXTRA_WORDS] * 50
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    # CLIP splits at spaces and reads bytes; a leading space is no part of a word.
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY_SIZE,
            min_frequency=2,
            end_of_word_suffix="</w>",
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    merges = json.loads(learner.to_str())["model"]["merges"]
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    for left, right in merges:
        if left + right not in tokens:
            tokens.append(left + right)
    tokens += [START, END]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False, indent=0))
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
