from __future__ import annotations

import math
from dataclasses import dataclass
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from darkroom_server.scheduling import ranking
from darkroom_server.scheduling.ranking import Ranking, TimedRanking


@dataclass(frozen=True)
class Item:
    rank: tuple[float, ...]


@given(st.sets(st.tuples(st.integers(0, 3), st.floats(0, 9), st.integers())), st.data())
def test_items_stay_in_order_as_they_come_and_go(
    ranks: set[tuple[int, float, int]], data: st.DataObject
) -> None:
    ranking: Ranking[Item] = Ranking()
    items = [Item(rank) for rank in ranks]
    for item in items:
        ranking.add(item)
    gone = data.draw(st.sets(st.sampled_from(items))) if items else set()
    for item in gone:
        ranking.remove(item)
    kept = sorted((item for item in items if item not in gone), key=lambda item: item.rank)
    assert list(ranking) == kept
    assert len(ranking) == len(kept)
    for place, item in enumerate(kept):
        assert ranking.count_before(item.rank) == place
    if kept:
        assert ranking.first == kept[0]


@dataclass(eq=False)
class Work:
    rank: tuple[float, ...]
    work_s: float
    due_s: float


#: Exact in binary, so that sums do not depend on their order.
QUARTERS = st.integers(0, 400).map(lambda count: count / 4)
CHANGES = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "touch"]), st.integers(0, 999), QUARTERS, QUARTERS),
    max_size=60,
)


@given(CHANGES)
def test_sums_are_those_of_the_items_however_they_came_and_changed(
    changes: list[tuple[str, int, float, float]],
) -> None:
    timed: TimedRanking[Work] = TimedRanking()
    held: dict[int, Work] = {}
    with mock.patch.object(ranking, "BLOCK_COUNT", 4):
        for verb, number, work_s, due_s in changes:
            if verb == "add" and number not in held:
                held[number] = Work((number,), work_s, due_s)
                timed.add(held[number])
            elif verb == "remove" and held:
                timed.remove(held.pop(min(held, key=lambda one: abs(one - number))))
            elif held:
                changed = held[min(held, key=lambda one: abs(one - number))]
                changed.work_s, changed.due_s = work_s, due_s
                timed.touch(changed)
    assert timed.work_s == sum(one.work_s for one in held.values())
    for number in (*held, -1, 1000):
        before = [one for one in held.values() if one.rank < (number,)]
        assert timed.count_before((number,)) == len(before)
        assert timed.work_before_s((number,)) == sum(one.work_s for one in before)
        after = sorted((one for one in held.values() if one.rank > (number,)), key=lambda w: w.rank)
        latest_s, begun_s = math.inf, 0.0
        for one in after:
            begun_s += one.work_s
            latest_s = min(latest_s, one.due_s - begun_s)
        found_s = min((one for one, _ in timed.latest_starts_s((number,))), default=math.inf)
        assert found_s == latest_s


def test_an_item_is_asked_once_for_its_work() -> None:
    """Sums are of what is kept: to count the work before a place calls nothing for each item."""
    asked_count = 0

    class Asked(Work):
        def __getattribute__(self, name: str) -> object:
            nonlocal asked_count
            asked_count += name in ("work_s", "due_s")
            return super().__getattribute__(name)

    timed: TimedRanking[Work] = TimedRanking()
    for number in range(1000):
        timed.add(Asked((number,), 1.0, math.inf))
    assert asked_count == 2000
    assert timed.work_before_s((500,)) == 500
    assert timed.count_before((500,)) == 500
    assert min(one for one, _ in timed.latest_starts_s((500,))) == math.inf
    assert asked_count == 2000
