"""The words that a model of a small vocabulary was taught."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

#: What may stand inside a word.
_INNER = "-'’"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Every word a model reads, in lower case, and prompts it draws well. No words: any text."""

    words: tuple[str, ...] = ()
    example_prompts: tuple[str, ...] = ()

    def unknown_in(self, text: str, taught: Iterable[str] = ()) -> tuple[str, ...]:
        """The words of a text that are not of the vocabulary or `taught`, each once, in order."""
        if not self.words:
            return ()
        known = frozenset(self.words) | frozenset(said_words(" ".join(taught)))
        unknown: dict[str, None] = {}
        for word in said_words(text):
            if word not in known:
                # Of two words with a hyphen between them only the unknown ones are named.
                parts = [part for part in word.split("-") if part and part not in known]
                unknown.update(dict.fromkeys(parts))
        return tuple(unknown)


def said_words(text: str) -> list[str]:
    """The words of a text, in lower case; a symbol such as an emoji is a word of its own."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    spaced = "".join(_spaced(letter) for letter in folded)
    stripped = (word.strip(_INNER) for word in spaced.split())
    return [word.removesuffix("'s").removesuffix("’s") for word in stripped if word]


def _spaced(letter: str) -> str:
    """A letter as it is, what parts words as a space, a symbol with spaces around it."""
    kind = unicodedata.category(letter)
    if letter in _INNER or kind[0] in "LNM":
        return letter
    if kind[0] == "S" and not letter.isascii():
        return f" {letter} "
    return " "
