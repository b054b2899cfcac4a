"""The sizes that a model was trained at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrainedSizes:
    """Smallest and largest width or height that a model draws well; 0: not known."""

    min_size_px: int = 0
    max_size_px: int = 0

    def has(self, size_px: int) -> bool:
        """Whether a width or height is one of them, as far as is known."""
        return self.min_size_px <= size_px and not 0 < self.max_size_px < size_px
