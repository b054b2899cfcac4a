"""Training examples kept ready; a few are replaced by fresh ones at every step."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Generic, TypeVar

Example = TypeVar("Example")

#: Examples made in one call at the start, which bounds the memory that making them takes.
_CHUNK = 4


class ExamplePool(Generic[Example]):
    """Examples made by `make(count)`; drawing and encoding all anew would cost more than training."""

    def __init__(
        self,
        make: Callable[[int], list[Example]],
        rng: random.Random,
        *,
        size: int,
        fresh_per_step: int,
    ) -> None:
        self._make, self._rng, self._fresh_per_step = make, rng, fresh_per_step
        self._examples: list[Example] = []
        while len(self._examples) < size:
            self._examples += make(min(_CHUNK, size - len(self._examples)))

    def choose(self, count: int) -> list[Example]:
        """Replaces `fresh_per_step` of the examples, then picks `count`."""
        start = self._rng.randrange(0, len(self._examples) - self._fresh_per_step + 1)
        self._examples[start : start + self._fresh_per_step] = self._make(self._fresh_per_step)
        return self._rng.choices(self._examples, k=count)
