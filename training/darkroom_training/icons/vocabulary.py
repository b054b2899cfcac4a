"""Every word that captions are made of: what the tokenizers know, and what a prompt may say."""

from __future__ import annotations

import re

from darkroom_training.icons import captions
from darkroom_training.icons.concepts import CONCEPTS, plural
from darkroom_training.icons.stamps import COLORS

#: Words that say nothing about a picture; captions have them too, so that they change nothing.
FILLERS = ("cute", "nice", "beautiful", "happy", "simple", "funny", "colorful")
_GRAMMAR = (
    "a an and on in to facing looking left right background plain gradient the of over sunset"
)
_SAID = re.compile(r"[a-z0-9-]+")


def words() -> tuple[str, ...]:
    """All words, sorted; in lower case, without punctuation."""
    phrases: list[str] = [_GRAMMAR, *FILLERS, *COLORS, *captions.SMALL, *captions.LARGE]
    for concept in CONCEPTS.values():
        phrases += [form for word in concept.words for form in (word, plural(word))]
    for table in (
        captions.NUMBERS,
        captions.PLACE_PHRASES,
        captions.LAND_PHRASES,
        captions.LAND_NAMES,
        captions.TIME_PHRASES,
    ):
        phrases += [phrase for choices in table.values() for phrase in choices]
    phrases += [*captions.OPENINGS, *captions.IN_THE_MIDDLE]
    return tuple(sorted({word for phrase in phrases for word in said(phrase)}))


def said(text: str) -> list[str]:
    """The words of a text."""
    return _SAID.findall(text.lower())
