from __future__ import annotations

from darkroom_server.engine.undelivered import Held, Undelivered


class Reader:
    """Somebody for whom bytes wait, until it is given up."""

    def __init__(self, undelivered: Undelivered) -> None:
        self.is_given_up = False
        self.held: Held = undelivered.hold(self._end)

    def _end(self) -> None:
        self.is_given_up = True
        self.held.release()


def test_what_is_read_makes_room() -> None:
    undelivered = Undelivered(max_bytes=100, max_call_bytes=50)
    reader = Reader(undelivered)
    for _ in range(10):
        reader.held.add(50)
        reader.held.drop(50)
    assert undelivered.total_bytes == 0
    assert not reader.is_given_up


def test_one_image_may_be_larger_than_a_call_may_leave() -> None:
    undelivered = Undelivered(max_bytes=100, max_call_bytes=50)
    reader = Reader(undelivered)
    reader.held.add(60)
    assert not reader.is_given_up
    reader.held.add(1)
    assert reader.is_given_up
    assert undelivered.total_bytes == 0


def test_in_all_those_go_for_whom_most_waits() -> None:
    undelivered = Undelivered(max_bytes=100, max_call_bytes=50)
    small, large, new = (Reader(undelivered) for _ in range(3))
    small.held.add(30)
    large.held.add(50)
    new.held.add(40)
    assert [one.is_given_up for one in (small, large, new)] == [False, True, False]
    assert undelivered.total_bytes == 70


def test_what_was_released_is_not_read_again() -> None:
    undelivered = Undelivered(max_bytes=100, max_call_bytes=50)
    reader = Reader(undelivered)
    reader.held.add(40)
    reader.held.release()
    reader.held.drop(40)
    assert undelivered.total_bytes == 0
