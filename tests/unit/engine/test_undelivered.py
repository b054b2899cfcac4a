from __future__ import annotations

from darkroom_server.engine.undelivered import Held, Undelivered


class Reader:
    """Somebody for whom bytes wait, until it is given up."""

    def __init__(self, undelivered: Undelivered, *, is_collected: bool = False) -> None:
        self.is_given_up = False
        self.held: Held = undelivered.hold(self._end, is_collected=is_collected)

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
    undelivered = Undelivered(max_bytes=100, max_call_bytes=50, now=lambda: 0.0)
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


def test_who_reads_meanwhile_stays_before_who_does_not() -> None:
    now_s = [0.0]
    undelivered = Undelivered(max_bytes=100, max_call_bytes=80, now=lambda: now_s[0])
    silent, slow, new = (Reader(undelivered) for _ in range(3))
    silent.held.add(30)
    slow.held.add(60)
    now_s[0] = 60.0
    slow.held.drop(1)
    now_s[0] = 61.0
    new.held.add(20)
    assert [one.is_given_up for one in (silent, slow, new)] == [True, False, False]


def test_who_cannot_read_yet_stays_before_who_could() -> None:
    now_s = [0.0]
    undelivered = Undelivered(max_bytes=100, max_call_bytes=80, now=lambda: now_s[0])
    collecting, silent, new = (
        Reader(undelivered, is_collected=True),
        *(Reader(undelivered) for _ in range(2)),
    )
    collecting.held.add(60)
    now_s[0] = 60.0
    silent.held.add(20)
    now_s[0] = 61.0
    new.held.add(30)
    assert [one.is_given_up for one in (collecting, silent, new)] == [False, True, False]
    # It is bounded all the same.
    new.held.release()
    collecting.held.add(20)
    assert not collecting.is_given_up
    collecting.held.add(1)
    assert collecting.is_given_up
