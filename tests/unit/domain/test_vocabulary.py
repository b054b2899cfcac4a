from __future__ import annotations

import pytest

from darkroom_server.domain.vocabulary import Vocabulary

KNOWN = Vocabulary(("a", "cat", "on", "red", "t-shirt", "two", "circles"))


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        pytest.param("a red cat", (), id="all-known"),
        pytest.param("A RED Cat.", (), id="capitals-and-a-full-stop"),
        pytest.param("two  red,circles;\na cat!", (), id="punctuation-parts-words"),
        pytest.param("a dog", ("dog",), id="one"),
        pytest.param("a dog on a dog on a Mat", ("dog", "mat"), id="each-once-in-order"),
        pytest.param("cats", ("cats",), id="a-plural-is-a-word-of-its-own"),
        pytest.param("the cat's t-shirt", ("the",), id="possessive-and-hyphen"),
        pytest.param("a cat-shaped red-cat", ("shaped",), id="parts-of-a-hyphenated-word"),
        pytest.param("(red:1.5) cat", ("1", "5"), id="weights"),
        pytest.param("eine rote Katze", ("eine", "rote", "katze"), id="another-language"),
        pytest.param("\uff43\uff41\uff54", (), id="full-width"),
        pytest.param("猫", ("猫",), id="another-script"),
        pytest.param("बिल्ली", ("बिल्ली",), id="marks-belong-to-their-letters"),
        pytest.param("a cat\N{CAT FACE}", ("\N{CAT FACE}",), id="an-emoji-is-a-word"),
        pytest.param("red+cat", (), id="signs-part-words"),
        pytest.param("c\u200dat", ("c", "at"), id="invisible-characters"),
        pytest.param("--- ...", (), id="nothing-but-punctuation"),
    ],
)
def test_unknown_words_are_found(text: str, unknown: tuple[str, ...]) -> None:
    assert KNOWN.unknown_in(text) == unknown


def test_without_words_every_text_is_known() -> None:
    assert Vocabulary().unknown_in("whatever 猫") == ()
