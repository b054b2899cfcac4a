from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom_server.scheduling.fairness import FairTurns

KEYS = ("a", "b", "c")


def turns_of(*keys: str) -> FairTurns[str]:
    turns: FairTurns[str] = FairTurns()
    for key in keys:
        turns.join(key)
    return turns


def taken(turns: FairTurns[str], count: int) -> list[str]:
    """Whose turns come next, each charged a second."""
    found = []
    for _ in range(count):
        found.append(turns.next())
        turns.charge(found[-1], 1.0)
    return found


def test_keys_take_turns() -> None:
    assert taken(turns_of(*KEYS), 6) == ["a", "b", "c"] * 2


def test_what_a_key_had_out_of_turn_holds_up_neither_it_nor_a_new_one() -> None:
    turns = turns_of("a", "b")
    for _ in range(500):
        turns.charge("a", 1.0)
    turns.join("c")
    assert taken(turns, 6) == ["b", "c", "a"] * 2


def test_time_counts_by_weight() -> None:
    turns: FairTurns[str] = FairTurns()
    turns.join("a", weight=3.0)
    turns.join("b")
    assert sorted(taken(turns, 8)) == ["a"] * 6 + ["b"] * 2


def test_a_key_that_leaves_and_comes_back_has_had_what_it_had() -> None:
    turns = turns_of("a", "b")
    turns.charge("a", 1.0)
    turns.leave("a")
    turns.join("a")
    assert turns.lead_s("a") == 1.0
    assert turns.next() == "b"


def test_what_was_booked_after_a_key_left_is_owed() -> None:
    turns = turns_of("a", "b")
    turns.leave("a")
    turns.charge("a", 5.0, most_owed_s=2.0)
    turns.join("a")
    assert turns.next() == "b"
    assert turns.lead_s("a") == 2.0


def test_when_nobody_waits_all_are_level_again() -> None:
    turns = turns_of("a")
    turns.charge("a", 9.0)
    turns.leave("a")
    turns.join("b")
    turns.join("a")
    assert turns.lead_s("a") == turns.lead_s("b") == 0.0


def test_keys_that_come_once_are_not_remembered_for_ever() -> None:
    turns = turns_of("stays")
    for number in range(5000):
        turns.join(f"once {number}")
        turns.charge(f"once {number}", 1.0, most_owed_s=9.0)
        turns.leave(f"once {number}")
    assert len(turns._owed_s) < 200


@given(
    st.lists(st.sampled_from(("turn", *KEYS)), max_size=40),
    st.sampled_from(KEYS),
)
def test_whatever_went_out_of_turn_a_key_waits_for_two_steps_of_each_other(
    steps: list[str], waiting: str
) -> None:
    turns = turns_of(*KEYS)
    for step in steps:
        turns.charge(turns.next() if step == "turn" else step, 1.0)
    before = taken(turns, 2 * len(KEYS)).index(waiting)
    assert before <= 2 * (len(KEYS) - 1)


@pytest.mark.parametrize("most_owed_s", [0.0, 3.0])
@given(st.lists(st.sampled_from(KEYS), max_size=40), st.sampled_from(KEYS))
def test_nobody_waits_for_more_than_what_others_may_owe(
    most_owed_s: float, favoured: list[str], waiting: str
) -> None:
    """The bound of the module: a step of each other, and what the waiting one owes."""
    turns = turns_of(*KEYS)
    for key in favoured:
        turns.charge(key, 1.0, most_owed_s=most_owed_s)
    others = len(KEYS) - 1
    bound = others * (max(1.0, most_owed_s) + 1)
    assert taken(turns, int(bound) + 1).count(waiting) >= 1
