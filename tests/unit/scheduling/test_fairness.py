from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from darkroom_server.scheduling.fairness import FairTurns

KEYS = ("a", "b", "c")


def taken(turns: FairTurns, count: int, keys: tuple[str, ...] = KEYS) -> list[str]:
    """Whose turns come next, each charged a second."""
    found = []
    for _ in range(count):
        key = str(turns.next(keys))
        turns.charge(key, 1.0, keys)
        found.append(key)
    return found


def test_keys_take_turns() -> None:
    assert taken(FairTurns(), 6) == ["a", "b", "c"] * 2


def test_what_a_key_had_out_of_turn_holds_up_neither_it_nor_a_new_one() -> None:
    turns = FairTurns()
    for _ in range(500):
        turns.charge("a", 1.0, ("a", "b"))
    assert taken(turns, 6) == ["b", "c", "a"] * 2


@given(
    st.lists(st.sampled_from(("turn", *KEYS)), max_size=40),
    st.sampled_from(KEYS),
)
def test_whatever_went_out_of_turn_a_key_waits_for_two_steps_of_each_other(
    steps: list[str], waiting: str
) -> None:
    turns = FairTurns()
    for step in steps:
        turns.charge(turns.next(KEYS) if step == "turn" else step, 1.0, KEYS)
    before = taken(turns, 2 * len(KEYS)).index(waiting)
    assert before <= 2 * (len(KEYS) - 1)
