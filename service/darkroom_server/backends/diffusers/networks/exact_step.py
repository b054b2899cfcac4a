"""One evaluation of a denoiser in which images have to stay as they are alone."""

from __future__ import annotations

import enum
from collections.abc import Hashable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from darkroom_server.backends.diffusers.networks.image_rows import ImageRows


class Trial(enum.Enum):
    """How the parts of a denoiser are tried."""

    #: Parts of one kind and shape are tried once.
    KINDS = enum.auto()
    #: Every part is tried.
    PARTS = enum.auto()


@dataclass(frozen=True, slots=True)
class Proved:
    """A step of images of equally many rows that was proved.

    `apart`: parts that are computed by image in it; `batched`: those of them that need one call.
    """

    apart: AbstractSet[str] = frozenset()
    batched: AbstractSet[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbours in a step, of equally many rows, which are computed as in a step of their own.

    `apart`: parts that are computed by image in it; `batched`: those of them that need one call.
    """

    rows: int
    image_count: int
    apart: AbstractSet[str]
    batched: AbstractSet[str]

    @property
    def row_count(self) -> int:
        """Rows in all."""
        return self.rows * self.image_count


@dataclass(slots=True)
class Step:
    """One evaluation: the rows of each image, and the parts that are not computed all together.

    `tried`: the names of parts that are tried; the rest is computed as the plan says.
    """

    image_rows: ImageRows
    apart: set[str]
    blocks: tuple[Block, ...]
    trial: Trial | None = None
    tried: frozenset[str] = frozenset()
    known: set[Hashable] = field(default_factory=set)
    #: What was found to differ, by the rows of an image.
    found: dict[int, set[str]] = field(default_factory=dict)
    #: Whether a part computed by image had the same bits in one call, every time.
    is_batched: dict[str, bool] = field(default_factory=dict)

    @property
    def is_mixed(self) -> bool:
        """Whether some images have more rows than others."""
        return len(set(self.image_rows)) > 1


def by_themselves(image_rows: ImageRows, apart: AbstractSet[str]) -> tuple[Block, ...]:
    """Every image in a step of its own."""
    return tuple(Block(rows, 1, apart, frozenset()) for rows in image_rows)
