from __future__ import annotations

import pytest

from darkroom_server.rpc.receiving import KEPT_S, Slow, SlowMessages


def slow(connection: str, began_s: float = 0.0) -> Slow:
    return Slow(connection, began_s)


def test_those_that_have_room_stay() -> None:
    messages = SlowMessages(4)
    assert [messages.add(slow(name), 0.0) for name in "aabb"] == [None] * 4
    assert len(messages) == 4


@pytest.mark.parametrize("age_s", [0.0, KEPT_S], ids=["the-new-one-goes", "the-oldest-goes"])
def test_a_connection_has_half_of_the_room(age_s: float) -> None:
    messages = SlowMessages(4)
    first, second, third = slow("a"), slow("a"), slow("a", age_s)
    messages.add(first, 0.0)
    messages.add(second, 0.0)
    assert messages.add(third, age_s) is (first if age_s else third)
    assert len(messages) == 2


def test_who_has_most_makes_way_for_others() -> None:
    messages = SlowMessages(4)
    alone, greedy, more = slow("b"), slow("a"), slow("a")
    for one in (alone, greedy, more, slow("c")):
        messages.add(one, 0.0)
    assert messages.add(slow("d", KEPT_S), KEPT_S) is greedy


def test_what_has_come_makes_room() -> None:
    messages = SlowMessages(2)
    first = slow("a")
    messages.add(first, 0.0)
    messages.discard(first)
    messages.discard(first)
    assert messages.add(slow("a"), 0.0) is None
