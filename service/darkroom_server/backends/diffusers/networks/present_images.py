"""Which images of a step are being computed, while parts of it are computed by image."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TypeVar

from darkroom_server.backends.diffusers.networks.image_rows import ImageRows

_Piece = TypeVar("_Piece")


class PresentImages:
    """Those from `first` to before `last` of the images of a step. Belongs to the model thread."""

    def __init__(self) -> None:
        self.first, self.last = 0, 0
        self._image_rows: ImageRows = ()

    def set(self, image_rows: ImageRows) -> None:
        """A step of images with these numbers of rows begins: all of them are present."""
        self._image_rows = image_rows
        self.first, self.last = 0, len(image_rows)

    @property
    def image_rows(self) -> ImageRows:
        """Rows of those that are present, in order."""
        return self._image_rows[self.first : self.last]

    def in_turn(
        self, pieces: Iterable[_Piece], image_counts: Iterable[int] | None = None
    ) -> Iterator[_Piece]:
        """The inputs of one image, or of a group, after another, which are present meanwhile."""
        before = self.first, self.last
        first = self.first
        try:
            for piece, count in zip(pieces, image_counts or itertools.repeat(1), strict=False):
                self.first, self.last = first, first + count
                first += count
                yield piece
        finally:
            self.first, self.last = before
