"""A list kept in order: the next of ten thousand is found as quickly as the next of ten."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Ranked(Protocol):
    """Has a place: a tuple that is lower the earlier it comes, unique and constant while held."""

    @property
    def rank(self) -> tuple[float, ...]:
        """The place."""
        ...


Item = TypeVar("Item", bound=Ranked)


class Ranking(Generic[Item]):
    """Items by rank. Adding and removing cost a search and a move of pointers."""

    def __init__(self) -> None:
        self._ranks: list[tuple[float, ...]] = []
        self._items: list[Item] = []

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    @property
    def first(self) -> Item:
        """The item of the lowest rank; there must be one."""
        return self._items[0]

    def count_before(self, rank: tuple[float, ...]) -> int:
        """Items that come before a rank."""
        return bisect_left(self._ranks, rank)

    def add(self, item: Item) -> None:
        """Takes an item in at its place."""
        place = bisect_left(self._ranks, item.rank)
        self._ranks.insert(place, item.rank)
        self._items.insert(place, item)

    def remove(self, item: Item) -> None:
        """Takes an item out; its rank must be what it was when it was added."""
        place = bisect_left(self._ranks, item.rank)
        del self._ranks[place], self._items[place]
