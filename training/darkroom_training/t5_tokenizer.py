"""A T5 tokenizer of our own small vocabulary: a unigram model whose pieces are whole words."""

from __future__ import annotations

import math
import random
import string
from collections import Counter

from transformers import T5Tokenizer

from darkroom_training.scenes import caption, random_scene
from darkroom_training.tokenizer import EXTRA_WORDS

#: What prompts are padded to. The padding is attended, so training uses exactly this length.
MAX_TOKENS = 32
_SPACE = "▁"
_LETTER_SCORE = -20.0
_TEXT_COUNT = 20_000


def build() -> T5Tokenizer:
    """The tokenizer; the same every time.

    Words of the captions and `EXTRA_WORDS` are one piece each, also with a capital letter; whatever
    else is printable in ASCII is spelt, letter by letter.
    """
    rng = random.Random(0)
    counts = Counter(EXTRA_WORDS.split())
    for _ in range(_TEXT_COUNT):
        counts.update(caption(random_scene(rng), rng).replace(",", "").split())
    total = sum(counts.values())
    scores = {word: math.log(count / total) for word, count in counts.items() if len(word) > 1}
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), (_SPACE, _LETTER_SCORE)]
    for spelt in (str, str.capitalize):
        pieces += [(_SPACE + spelt(word), score) for word, score in sorted(scores.items())]
    pieces += [(_SPACE + article, math.log(0.1)) for article in ("a", "A")]
    printable = string.ascii_letters + string.digits + string.punctuation
    pieces += [(letter, _LETTER_SCORE) for letter in printable]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=MAX_TOKENS)
