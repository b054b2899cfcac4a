"""Prompt embeddings of texts seen before: exact, and bounded in bytes.

Thread-bound, but for the counters, which any thread may read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar, cast


class Sized(Protocol):
    """Tensors and arrays."""

    @property
    def nbytes(self) -> int:
        """Memory that the values take."""
        ...


Embeddings = TypeVar("Embeddings", bound=tuple[Sized, ...])


class PromptCache:
    """Embeddings by what they depend on. `max_bytes` 0 keeps none."""

    def __init__(self, *, max_bytes: int) -> None:
        self.hit_count = 0
        self.miss_count = 0
        self.held_bytes = 0
        self._max_bytes = max_bytes
        self._held: OrderedDict[Hashable, tuple[Sized, ...]] = OrderedDict()

    def lookup(self, key: Hashable, make: Callable[[], Embeddings]) -> Embeddings:
        """What `make` made for an equal key, or makes now; raises what `make` raises."""
        found = self._held.get(key)
        if found is not None:
            self.hit_count += 1
            self._held.move_to_end(key)
            return cast("Embeddings", found)
        self.miss_count += 1
        made = make()
        size_bytes = _size_bytes(made)
        if size_bytes <= self._max_bytes:
            self._held[key] = made
            self.held_bytes += size_bytes
            while self.held_bytes > self._max_bytes:
                _, dropped = self._held.popitem(last=False)
                self.held_bytes -= _size_bytes(dropped)
        return made


def _size_bytes(embeddings: tuple[Sized, ...]) -> int:
    return sum(one.nbytes for one in embeddings)
