"""The tokenizers of version 2: every word of the vocabulary is one token, in CLIP's and in T5's format.

Both pad to `MAX_TOKENS`, and the padding has work to do: a text encoder puts its plan of the picture on the
last `PLAN_TOKENS` of them (see `darkroom_training.icons.text`). Whatever is not of the vocabulary is spelt.
"""

from __future__ import annotations

import itertools
import json
import os
import string
from pathlib import Path

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer, T5Tokenizer

from darkroom_training.icons.vocabulary import words

START, END = "<|startoftext|>", "<|endoftext|>"
#: Tokens of text, its start and end among them, and tokens of the plan.
TEXT_TOKENS, PLAN_TOKENS = 24, 36
MAX_TOKENS = TEXT_TOKENS + PLAN_TOKENS
_SPACE = "▁"
_WORD_SCORE, _LETTER_SCORE = -3.0, -20.0
_WORD_END = "</w>"


def clip_words(folder: Path) -> CLIPTokenizer:
    """The CLIP tokenizer; writes its `vocab.json` and `merges.txt` to the folder, the same every time."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = merges_for(words())
    tokens = [*alphabet, *(letter + _WORD_END for letter in alphabet)]
    tokens += [left + right for left, right in merges]
    tokens += [START, END]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    assert len(vocabulary) == len(tokens), "no merge makes a token twice"
    _replace(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False, indent=0))
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    _replace(folder / "merges.txt", "\n".join(lines) + "\n")
    return CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        model_max_length=MAX_TOKENS,
        pad_token=END,
    )


def _replace(path: Path, text: str) -> None:
    """Ranks begin together and write the same file: none may read what another has half written."""
    half = path.with_name(f"{path.name}.{os.getpid()}")
    half.write_text(text)
    half.replace(path)


def merges_for(wanted: tuple[str, ...]) -> list[tuple[str, str]]:
    """Byte-pair merges that make one token of each of these words.

    A word is first merged as far as earlier words' merges go; the rest is joined from the left. Later
    merges have less priority, so earlier words stay whole.
    """
    ranks: dict[tuple[str, str], int] = {}
    made: set[str] = set()
    for word in wanted:
        # CLIP's pre-tokenizer takes digits and punctuation apart from letters.
        for part in _letters(word):
            pieces = _merged([*part[:-1], part[-1] + _WORD_END], ranks)
            while len(pieces) > 1:
                pair = (pieces[0], pieces[1])
                assert pair[0] + pair[1] not in made, f"{pair} would be made in two ways"
                ranks[pair] = len(ranks)
                made.add(pair[0] + pair[1])
                pieces = [pair[0] + pair[1], *pieces[2:]]
    return list(ranks)


def _letters(word: str) -> list[str]:
    return [part for part in "".join(c if c.isalpha() else " " for c in word).split() if part]


def _merged(pieces: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    while True:
        known = [
            (ranks[pair], at) for at, pair in enumerate(itertools.pairwise(pieces)) if pair in ranks
        ]
        if not known:
            return pieces
        _, at = min(known)
        pieces = [*pieces[:at], pieces[at] + pieces[at + 1], *pieces[at + 2 :]]


def t5_words() -> T5Tokenizer:
    """The T5 tokenizer: words with and without a capital letter, and whatever else letter by letter."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), (_SPACE, _LETTER_SCORE)]
    for spelt in (str, str.capitalize):
        pieces += [
            (_SPACE + spelt(word), _WORD_SCORE) for word in words() if spelt(word) not in "023"
        ]
    printable = string.ascii_letters + string.digits + string.punctuation
    pieces += [(_SPACE + digit, _WORD_SCORE) for digit in "23"]
    pieces += [(letter, _LETTER_SCORE) for letter in printable]
    unique = dict(pieces)
    return T5Tokenizer(vocab=list(unique.items()), extra_ids=0, model_max_length=MAX_TOKENS)
