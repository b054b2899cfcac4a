"""A list kept in order: the next of ten thousand is found as quickly as the next of ten.

It is cut into blocks, each with the sum of its items' work, so that the work before a place is
counted by blocks.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
    #: Work of all its items; None until it is asked for.
    work_s: float | None = None
    #: The latest time at which the first may begin if each is to be done by its time, one after
    #: another; None until it is asked for.
    latest_s: float | None = None


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
        count = sum(len(block.items) for block in self._blocks[:place])
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
        self._changed(block, item, 1)
        self._lasts[place] = block.ranks[-1]
        self._count += 1
        if len(block.items) > BLOCK_COUNT:
            half = BLOCK_COUNT // 2
            later = _Block(block.ranks[half:], block.items[half:])
            del block.ranks[half:], block.items[half:]
            block.work_s = None
            self._blocks.insert(place + 1, later)
            self._lasts[place : place + 1] = [block.ranks[-1], later.ranks[-1]]

    def remove(self, item: Item) -> None:
        """Takes an item out; its rank must be what it was when it was added."""
        place = bisect_left(self._lasts, item.rank)
        block = self._blocks[place]
        at = bisect_left(block.ranks, item.rank)
        del block.ranks[at], block.items[at]
        self._changed(block, item, -1)
        self._count -= 1
        if block.items:
            self._lasts[place] = block.ranks[-1]
        else:
            del self._blocks[place], self._lasts[place]

    def _changed(self, block: _Block[Item], item: Item, sign: int) -> None:
        """An item has come into a block, or has left it."""


class TimedRanking(Ranking[TimedItem]):
    """Items by rank that know how much work comes before a place."""

    @property
    def work_s(self) -> float:
        """Work of all items."""
        return sum(map(_work_s, self._blocks))

    def touch(self, item: TimedItem) -> None:
        """Says that the work of an item is another."""
        block = self._blocks[bisect_left(self._lasts, item.rank)]
        block.work_s = block.latest_s = None

    def work_before_s(self, rank: Rank) -> float:
        """Work of the items that come before a rank."""
        place = bisect_left(self._lasts, rank)
        work_s = sum(map(_work_s, self._blocks[:place]))
        if place < len(self._blocks):
            block = self._blocks[place]
            work_s += sum(item.work_s for item in block.items[: bisect_left(block.ranks, rank)])
        return work_s

    def latest_starts_s(self, after: Rank) -> Iterator[tuple[float, float]]:
        """When what comes after a rank must begin at the latest to be in time, if it is done one
        after another: a time for some items at once, and when the last of them is due by rank.
        """
        place, work_s = bisect_right(self._lasts, after), 0.0
        if place == len(self._blocks):
            return
        block = self._blocks[place]
        begun = block.items[bisect_right(block.ranks, after) :]
        yield _latest_s(begun), block.ranks[-1][0]
        work_s = sum(item.work_s for item in begun)
        for block in self._blocks[place + 1 :]:
            if block.latest_s is None:
                block.latest_s = _latest_s(block.items)
            yield block.latest_s - work_s, block.ranks[-1][0]
            work_s += _work_s(block)

    def _changed(self, block: _Block[TimedItem], item: TimedItem, sign: int) -> None:
        block.latest_s = None
        if block.work_s is not None:
            block.work_s = max(0.0, block.work_s + sign * item.work_s)


def _work_s(block: _Block[TimedItem]) -> float:
    if block.work_s is None:
        block.work_s = sum(item.work_s for item in block.items)
    return block.work_s


def _latest_s(items: Sequence[TimedItem]) -> float:
    work_s, latest_s = 0.0, math.inf
    for item in items:
        work_s += item.work_s
        latest_s = min(latest_s, item.due_s - work_s)
    return latest_s
