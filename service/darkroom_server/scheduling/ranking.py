"""A list kept in order: the next of ten thousand is found as quickly as the next of ten.

It is cut into blocks, each with the sum of its items' work, so that the work before a place is
counted by blocks, and within a block as a sum of numbers that are kept beside the items: no item is
asked again for what it said when it came or changed.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import attrgetter, sub
from typing import Generic, Protocol, TypeVar

#: Items of a block at most; one that is full is cut in two.
BLOCK_COUNT = 128

Rank = tuple[float, ...]


class Ranked(Protocol):
    """Has a place: a tuple that is lower the earlier it comes, unique and constant while held."""

    @property
    def rank(self) -> Rank:
        """The place."""
        ...


class Timed(Ranked, Protocol):
    """Takes time, and has to be done by then; who changes either says so to the ranking."""

    @property
    def work_s(self) -> float:
        """Device time that it takes."""
        ...

    @property
    def due_s(self) -> float:
        """When it has to be done; infinite when it never has to."""
        ...


Item = TypeVar("Item", bound=Ranked)
TimedItem = TypeVar("TimedItem", bound=Timed)


@dataclass(slots=True)
class _Block(Generic[Item]):
    ranks: list[Rank] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    #: How many items there are.
    count: int = 0
    #: Of a ranking of items that take time: work and due times beside the items, the sum of the
    #: work, and the latest time at which the first may begin if each is to be done by its time, one
    #: after another; that is None until it is asked for.
    works_s: list[float] = field(default_factory=list)
    dues_s: list[float] = field(default_factory=list)
    work_s: float = 0.0
    latest_s: float | None = None


#: Read without a call into Python for each block: what is summed up over all blocks is quick.
_count = attrgetter("count")
_work_s = attrgetter("work_s")


class Ranking(Generic[Item]):
    """Items by rank. Adding and removing cost a search and a move of some pointers."""

    def __init__(self) -> None:
        self._blocks: list[_Block[Item]] = []
        #: The rank of each block's last item.
        self._lasts: list[Rank] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Item]:
        for block in self._blocks:
            yield from block.items

    @property
    def first(self) -> Item:
        """The item of the lowest rank; there must be one."""
        return self._blocks[0].items[0]

    def count_before(self, rank: Rank) -> int:
        """Items that come before a rank."""
        place = bisect_left(self._lasts, rank)
        count: int = sum(map(_count, self._blocks[:place]))
        if place < len(self._blocks):
            count += bisect_left(self._blocks[place].ranks, rank)
        return count

    def add(self, item: Item) -> None:
        """Takes an item in at its place."""
        rank = item.rank
        if not self._blocks:
            self._blocks.append(_Block())
            self._lasts.append(rank)
        place = min(bisect_left(self._lasts, rank), len(self._blocks) - 1)
        block = self._blocks[place]
        at = bisect_right(block.ranks, rank)
        block.ranks.insert(at, rank)
        block.items.insert(at, item)
        block.count += 1
        self._count += 1
        self._added(block, at, item)
        self._lasts[place] = block.ranks[-1]
        if block.count > BLOCK_COUNT:
            half = BLOCK_COUNT // 2
            later = self._cut(block, half)
            self._blocks.insert(place + 1, later)
            self._lasts[place : place + 1] = [block.ranks[-1], later.ranks[-1]]

    def remove(self, item: Item) -> None:
        """Takes an item out; its rank must be what it was when it was added."""
        rank = item.rank
        place = bisect_left(self._lasts, rank)
        block = self._blocks[place]
        at = bisect_left(block.ranks, rank)
        del block.ranks[at], block.items[at]
        block.count -= 1
        self._count -= 1
        self._removed(block, at)
        if block.items:
            self._lasts[place] = block.ranks[-1]
        else:
            del self._blocks[place], self._lasts[place]

    def _cut(self, block: _Block[Item], at: int) -> _Block[Item]:
        """Takes the items from a place on out of a block, as a block of their own."""
        later = _Block(block.ranks[at:], block.items[at:], block.count - at)
        del block.ranks[at:], block.items[at:]
        block.count = at
        return later

    def _added(self, block: _Block[Item], at: int, item: Item) -> None:
        """An item has come into a block."""

    def _removed(self, block: _Block[Item], at: int) -> None:
        """The item at a place of a block has left it."""


class TimedRanking(Ranking[TimedItem]):
    """Items by rank that know how much work comes before a place."""

    @property
    def work_s(self) -> float:
        """Work of all items."""
        return float(sum(map(_work_s, self._blocks)))

    def touch(self, item: TimedItem) -> None:
        """Says that the work of an item is another, or when it has to be done."""
        rank = item.rank
        block = self._blocks[bisect_left(self._lasts, rank)]
        at = bisect_left(block.ranks, rank)
        block.works_s[at], block.dues_s[at] = item.work_s, item.due_s
        _sum_up(block)

    def work_before_s(self, rank: Rank) -> float:
        """Work of the items that come before a rank."""
        place = bisect_left(self._lasts, rank)
        work_s = float(sum(map(_work_s, self._blocks[:place])))
        if place < len(self._blocks):
            block = self._blocks[place]
            work_s += sum(block.works_s[: bisect_left(block.ranks, rank)])
        return work_s

    def latest_starts_s(self, after: Rank) -> Iterator[tuple[float, float]]:
        """When what comes after a rank must begin at the latest to be in time, if it is done one
        after another: a time for some items at once, and when the last of them is due by rank.
        """
        place, work_s = bisect_right(self._lasts, after), 0.0
        if place == len(self._blocks):
            return
        block = self._blocks[place]
        at = bisect_right(block.ranks, after)
        begun_s = block.works_s[at:]
        yield _latest_s(begun_s, block.dues_s[at:]), block.ranks[-1][0]
        work_s = sum(begun_s)
        for block in self._blocks[place + 1 :]:
            if block.latest_s is None:
                block.latest_s = _latest_s(block.works_s, block.dues_s)
            yield block.latest_s - work_s, block.ranks[-1][0]
            work_s += block.work_s

    def _cut(self, block: _Block[TimedItem], at: int) -> _Block[TimedItem]:
        later = super()._cut(block, at)
        later.works_s, later.dues_s = block.works_s[at:], block.dues_s[at:]
        del block.works_s[at:], block.dues_s[at:]
        for one in (block, later):
            _sum_up(one)
        return later

    def _added(self, block: _Block[TimedItem], at: int, item: TimedItem) -> None:
        block.works_s.insert(at, item.work_s)
        block.dues_s.insert(at, item.due_s)
        _sum_up(block)

    def _removed(self, block: _Block[TimedItem], at: int) -> None:
        del block.works_s[at], block.dues_s[at]
        _sum_up(block)


def _sum_up(block: _Block[TimedItem]) -> None:
    """Adds up a block's work again: from the numbers, so that no error adds up over its changes."""
    block.work_s = sum(block.works_s)
    block.latest_s = None


def _latest_s(works_s: Sequence[float], dues_s: Sequence[float]) -> float:
    """When work has to begin so that each is done by its time, one after another."""
    return min(map(sub, dues_s, accumulate(works_s)), default=math.inf)
