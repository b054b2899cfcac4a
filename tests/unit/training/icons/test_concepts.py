from __future__ import annotations

from collections import Counter

import pytest

from darkroom_training.icons.concepts import CONCEPTS, SHAPES, article, plural


def test_no_word_stands_for_two_things() -> None:
    words = Counter(
        form
        for concept in CONCEPTS.values()
        for word in concept.words
        for form in {word, plural(word)}
    )
    assert [word for word, count in words.items() if count > 1] == []


def test_there_are_as_many_things_as_the_cards_say() -> None:
    assert 100 <= len(CONCEPTS) <= 150
    assert all((concept.icon is None) == (name in SHAPES) for name, concept in CONCEPTS.items())


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        *(("cat", "cats"), ("mouse", "mice"), ("snowman", "snowmen"), ("sheep", "sheep")),
        *(("box", "boxes"), ("cherry", "cherries"), ("key", "keys"), ("tomato", "tomatoes")),
        *(("ufo", "ufos"), ("cup of coffee", "cups of coffee"), ("palm tree", "palm trees")),
    ],
)
def test_plurals(word: str, expected: str) -> None:
    assert plural(word) == expected


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        *(("cat", "a cat"), ("owl", "an owl"), ("ufo", "a ufo"), ("umbrella", "an umbrella")),
        *(("unicorn", "a unicorn"), ("orange car", "an orange car")),
    ],
)
def test_articles(noun: str, expected: str) -> None:
    assert article(noun) == expected
