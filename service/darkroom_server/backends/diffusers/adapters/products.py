"""Low-rank products of several images: in one call where that is quicker and has the same bits.

A product an image is what diffusers computes of the image alone. Many small ones cost more in calls
than in arithmetic: those of neighbours of one rank are then put together, as a product of a batch
of matrices. Whether that has the bits of each alone is tried with the first of each shape, beside
the others; where it has not, or bits prove nothing (see batched_ways), it stays a product an image.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import torch

from darkroom_server.backends.diffusers.adapters.low_rank import Layer, LowRank
from darkroom_server.backends.diffusers.networks.image_rows import as_alone

#: Up to these sizes of one image's product and of one pair, calls cost more than arithmetic. Above
#: them one image's product stays in the processor's cache until it is added, a batch's does not.
_MAX_MADE_BYTES, _MAX_PAIR_BYTES = 128 << 10, 128 << 10
#: Kernels may treat other addresses differently.
_ALIGNED_BYTES = 64


class Addition(NamedTuple):
    """What one adapter adds to one layer, and its factor."""

    pair: LowRank
    scaling: float


class Run:
    """Additions of one rank to one layer, of neighbours in a step of equally many rows each.

    `row_count`: of all of them. No additions: nothing is added to these rows.
    """

    __slots__ = ("_stacks", "additions", "row_count")

    def __init__(self, row_count: int, additions: tuple[Addition, ...]) -> None:
        self.row_count, self.additions = row_count, additions
        self._stacks: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def is_small(self) -> bool:
        """Whether its pairs may be put together."""
        return len(self.additions) > 1 and self.additions[0].pair.nbytes <= _MAX_PAIR_BYTES

    def product(self, inputs: torch.Tensor) -> torch.Tensor:
        """Products of all images: [images, rows and tokens, out], not scaled."""
        if self._stacks is None:
            pairs = [one.pair for one in self.additions]
            downs, ups = (torch.stack([getattr(p, n) for p in pairs]) for n in ("down", "up"))
            self._stacks = downs.mT, ups.mT
        images = inputs.view(len(self.additions), -1, inputs.shape[-1])
        return torch.bmm(torch.bmm(images, self._stacks[0]), self._stacks[1])


class Products:
    """Adds to layers' results. Belongs to the model thread."""

    def __init__(self) -> None:
        #: Whether products of a shape in one call have the bits of one after another.
        self._is_equal: dict[Hashable, bool] = {}
        #: Products that were computed in one call, and one after another.
        self.batched_count, self.single_count = 0, 0

    def add(self, layer: Layer, inputs: torch.Tensor, result: torch.Tensor, run: Run) -> None:
        """Adds to a layer's result [rows, …] what the adapters of each image add to its rows."""
        count = len(run.additions)
        key = _batched_key(layer, inputs, result, run)
        is_equal = None if key is None else self._is_equal.get(key)
        if is_equal:
            self.batched_count += count
            _add_scaled(result, run, inputs)
            return
        before = at_once = None
        if key is not None and is_equal is None:
            before, at_once = result.clone(), result.clone()
            _add_scaled(at_once, run, inputs)
        self.single_count += count
        _add_by_image(layer, inputs, result, run)
        # An image to which nothing is added cannot show a difference.
        if before is not None and at_once is not None and _differs(before, result, count):
            self._is_equal[key] = torch.equal(at_once, result)


def _differs(before: torch.Tensor, after: torch.Tensor, image_count: int) -> bool:
    """Whether each image's part of a result was changed."""
    pairs = zip(before.chunk(image_count), after.chunk(image_count), strict=True)
    return not any(torch.equal(one, other) for one, other in pairs)


def _batched_key(
    layer: Layer, inputs: torch.Tensor, result: torch.Tensor, run: Run
) -> Hashable | None:
    """What chooses the kernels of a product in one call; None where there is none."""
    if not run.is_small or not isinstance(layer, torch.nn.Linear):
        return None
    count, pair = len(run.additions), run.additions[0].pair
    if (
        result.nbytes > _MAX_MADE_BYTES * count
        or not (inputs.dtype == result.dtype == pair.down.dtype == torch.float32)
        or not (inputs.is_contiguous() and result.is_contiguous())
    ):
        return None
    place = inputs.data_ptr() % _ALIGNED_BYTES
    return count, inputs.shape, place, pair.down.shape, pair.up.shape


def _add_scaled(result: torch.Tensor, run: Run, inputs: torch.Tensor) -> None:
    """Rounded twice, as each alone; factors of 1 change nothing."""
    made = run.product(inputs)
    scalings = [one.scaling for one in run.additions]
    if len(set(scalings)) > 1:
        made.mul_(torch.tensor(scalings, dtype=made.dtype, device=made.device)[:, None, None])
    elif scalings[0] != 1:
        made.mul_(scalings[0])
    result.view(made.shape).add_(made)


def _add_by_image(layer: Layer, inputs: torch.Tensor, result: torch.Tensor, run: Run) -> None:
    count = len(run.additions)
    pieces = zip(inputs.chunk(count), result.chunk(count), run.additions, strict=True)
    for own, made, (pair, scaling) in pieces:
        added = pair.added(layer, own if count == 1 else as_alone(own, inputs), made, scaling)
        if added is not made:
            made.copy_(added)
