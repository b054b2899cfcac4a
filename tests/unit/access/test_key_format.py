from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from darkroom_server.access.key_format import digest_of, id_in, new_key


def test_a_key_looks_like_one_and_names_its_id() -> None:
    key = new_key()
    assert re.fullmatch(r"dk_[0-9A-Za-z]{10}_[0-9A-Za-z]{49}", key.text)
    assert id_in(key.text) == key.id == key.text.split("_")[1]
    assert key.sha256 == digest_of(key.text)


def test_no_two_keys_are_the_same() -> None:
    assert len({new_key().text for _ in range(100)}) == 100


def test_a_key_does_not_show_in_what_is_printed_of_it() -> None:
    key = new_key()
    assert key.text not in repr(key)


@given(st.data())
def test_one_wrong_character_is_noticed(data: st.DataObject) -> None:
    text = new_key().text
    index = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.characters(codec="utf-8").filter(lambda one: one != text[index]))
    assert id_in(text[:index] + letter + text[index + 1 :]) is None


@given(st.text())
def test_any_text_is_answered(text: str) -> None:
    assert id_in(text) is None


def test_a_key_that_was_cut_off_is_none() -> None:
    text = new_key().text
    assert id_in(text[:-1]) is None
    assert id_in(f"{text} ") is None
