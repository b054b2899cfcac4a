"""Adapters at work: what they add to the results of a part's layers, by image.

A layer is computed for all rows of a step at once, as if there were no adapters. What each image's
adapters add is computed of that image's rows, so that it has the bits of the image alone. Nothing
is merged into weights, and steps without adapters run no line of this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from darkroom_server.backends.diffusers.adapters.low_rank import AdapterSet, Layer, LowRank
from darkroom_server.backends.diffusers.networks.image_rows import as_alone
from darkroom_server.backends.diffusers.networks.present_images import PresentImages

#: The additions of one image to a layer, in order, each with its factor.
_Additions = tuple[tuple[LowRank, float], ...]


@dataclass(frozen=True, slots=True)
class _Adding:
    """A layer's hook, which adds to its result. `by_image`: what each image of the step adds."""

    present: PresentImages
    by_image: tuple[_Additions, ...]

    def __call__(self, layer: Layer, args: tuple[Any, ...], result: torch.Tensor) -> torch.Tensor:
        inputs: torch.Tensor = args[0]
        present = self.present
        by_image = self.by_image[present.first : present.last]
        if len(by_image) == 1:
            _add(layer, inputs, result, by_image[0])
            return result
        image_rows = present.image_rows
        # What the layer has just made is nobody else's yet.
        pieces = zip(
            inputs.split_with_sizes(image_rows),
            result.split_with_sizes(image_rows),
            by_image,
            strict=True,
        )
        for rows, made, additions in pieces:
            if additions:
                _add(layer, as_alone(rows), made, additions)
        return result


def _add(layer: Layer, inputs: torch.Tensor, result: torch.Tensor, additions: _Additions) -> None:
    """Adds to one image's result what its adapters add."""
    made = result
    for pair, scaling in additions:
        made = pair.added(layer, inputs, made, scaling)
    if made is not result:
        result.copy_(made)


@contextmanager
def adding(
    part: str, module: torch.nn.Module, sets: Sequence[AdapterSet], present: PresentImages
) -> Iterator[None]:
    """What is computed of a part within has the additions of each image's adapters to it."""
    layers: dict[str, list[_Additions]] = {}
    for index, adapters in enumerate(sets):
        for one in adapters:
            for name, pair in one.adapter.parts.get(part, {}).items():
                by_image = layers.setdefault(name, [()] * len(sets))
                by_image[index] += ((pair, pair.scaling(one.weight)),)
    handles = [
        module.get_submodule(name).register_forward_hook(_Adding(present, tuple(by_image)))
        for name, by_image in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
