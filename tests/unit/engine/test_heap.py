from __future__ import annotations

from darkroom_server.engine.heap import SLACK_BYTES, Heap

START_BYTES = 1 << 30


def test_a_process_that_is_no_larger_than_it_was_is_left_alone() -> None:
    trimmed: list[int] = []
    heap = Heap(lambda: 0, lambda _: trimmed.append(0) or 1, lambda: START_BYTES + SLACK_BYTES)
    heap.trim()
    assert trimmed == []


def test_one_that_has_grown_is_trimmed_each_time() -> None:
    sizes = [START_BYTES]
    trimmed: list[str] = []
    heap = Heap(
        lambda: trimmed.append("collect") or 0,
        lambda _: trimmed.append("trim") or 1,
        lambda: sizes[-1],
    )
    sizes.append(START_BYTES + SLACK_BYTES + 1)
    heap.trim()
    heap.trim()
    assert trimmed == ["collect", "trim"] * 2
