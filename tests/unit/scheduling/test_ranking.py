from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from darkroom_server.scheduling.ranking import Ranking


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
