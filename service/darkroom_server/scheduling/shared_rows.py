"""Which images may share a step at EXACT: what was proved, by key. Pure.

Kernels are chosen by the number of rows in a step and by the rows that an image has alone, so both
are what is proved: numbers of rows of a step, with the row counts of its images.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

#: Keys that are known, the newest: some families' contain the lengths of texts.
_MAX_KEY_COUNT = 4096
#: The different row counts of the images of a step, ascending: (1,), (2,) or (1, 2).
RowKinds = tuple[int, ...]


def kinds_of(image_rows: Sequence[int]) -> RowKinds:
    """Which row counts the images of a step have."""
    return tuple(sorted(set(image_rows)))


@dataclass(slots=True)
class SharedRows:
    """Rows of the steps that were proved exact. One image alone is always exact.

    One thread may add to it while others read. `is_open`: every step may be shared, of a model
    whose rows nothing else changes.
    """

    is_open: bool = False
    _proved: dict[Hashable, Mapping[RowKinds, frozenset[int]]] = field(default_factory=dict)
    #: Grows with everything that is added.
    version: int = 0

    def allow(self, key: Hashable, kinds: RowKinds, row_count: int) -> None:
        """Notes that steps of `row_count` rows were proved, of images with these row counts."""
        proved = self._proved.get(key, {})
        # Replaced, not changed: somebody may be reading it.
        self._proved[key] = {**proved, kinds: proved.get(kinds, frozenset()) | {row_count}}
        if len(self._proved) > _MAX_KEY_COUNT:
            del self._proved[next(iter(self._proved))]
        self.version += 1

    def allows(self, key: Hashable, image_rows: Sequence[int]) -> bool:
        """Whether images of these rows may share a step."""
        if self.is_open or len(image_rows) == 1:
            return True
        return sum(image_rows) in self._proved.get(key, {}).get(kinds_of(image_rows), ())

    @property
    def largest(self) -> int:
        """Rows of the largest step that was proved, of any key."""
        return max(
            (max(rows) for proved in list(self._proved.values()) for rows in proved.values()),
            default=0,
        )

    def most(self, key: Hashable, limit: int) -> int:
        """Rows of the largest step that may be taken within a limit; 0 while none is proved."""
        if self.is_open:
            return limit
        rows = (row for proved in self._proved.get(key, {}).values() for row in proved)
        return max((row for row in rows if row <= limit), default=0)

    def longest(self, key: Hashable, image_rows: Sequence[int]) -> int:
        """How many of these images, from the first on, may share a step; at least one."""
        count = len(image_rows)
        while not self.allows(key, image_rows[:count]):
            count -= 1
        return count

    def proved(self, key: Hashable) -> Mapping[RowKinds, frozenset[int]]:
        """All that was proved of a key."""
        return self._proved.get(key, {})
